//! What the tests of several operations share: inputs, and the comparison of a kernel with its plain body.

use burn::tensor::{Device, Tensor, TensorData};

/// `len` numbers between `−scale` and `scale`, without a pattern that a mistake could hide in.
pub(crate) fn numbers(len: usize, seed: u64, scale: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        scale * ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0)
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// An input of an operation, a leaf with gradients, in whatever rank the operation wants it.
pub(crate) struct Input {
    flat: Tensor<1>,
    shape: Vec<usize>,
}

impl Input {
    pub(crate) fn flat(&self) -> Tensor<1> {
        self.flat.clone()
    }

    pub(crate) fn matrix(&self) -> Tensor<2> {
        self.shaped()
    }

    pub(crate) fn shaped<const D: usize>(&self) -> Tensor<D> {
        let shape: [usize; D] = self.shape.clone().try_into().unwrap();
        self.flat.clone().reshape(shape)
    }

    pub(crate) fn device(&self) -> Device {
        self.flat.device().without_autodiff()
    }
}

/// Runs `f`, which gives the results of kernel and plain body, and compares both and their gradients.
///
/// The tolerance is relative to the largest magnitude of what is compared.
pub(crate) fn compare<const D: usize>(
    tolerance: f32,
    inputs: &[(Vec<f32>, Vec<usize>)],
    f: &mut dyn FnMut(&[Input]) -> [Tensor<D>; 2],
) {
    let device = Device::flex().autodiff();
    let run = |which: usize, f: &mut dyn FnMut(&[Input]) -> [Tensor<D>; 2]| {
        let inputs: Vec<Input> = inputs
            .iter()
            .map(|(values, shape)| {
                let data = TensorData::new(values.clone(), [values.len()]);
                Input { flat: Tensor::from_data(data, &device).require_grad(), shape: shape.clone() }
            })
            .collect();
        let y = f(&inputs).into_iter().nth(which).unwrap();
        let values = read(y.clone());
        let probe =
            Tensor::<1>::from_data(TensorData::new(numbers(values.len(), 99, 1.0), [values.len()]), &device);
        let grads = (y.reshape([values.len()]) * probe).sum().backward();
        let mut found = vec![values];
        found.extend(inputs.iter().map(|input| input.flat.grad(&grads).map(read).unwrap_or_default()));
        found
    };
    let (kernel, plain) = (run(0, f), run(1, f));
    for (which, (kernel, plain)) in kernel.iter().zip(&plain).enumerate() {
        assert_close(kernel, plain, tolerance, &format!("result or gradient {which}"));
    }
}

/// Panics unless each pair is within `tolerance` of the largest magnitude.
pub(crate) fn assert_close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let size = expected.iter().fold(1e-6f32, |size, x| size.max(x.abs()));
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs();
        assert!(error <= tolerance * size, "{what}, element {index}: {found} instead of {expected}");
    }
}

fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}
