//! Every operation of a training step, forward and backward, beside the same in burn's own operations.
//!
//! `cargo bench -p distill-ops`, or `cargo bench -p distill-ops -- attention` for those with that word in their name.
//! Both sides take turns, and the median of the rounds is told; `DISTILL_ISA` forces an instruction set.

use std::time::Instant;

use burn::tensor::{Device, Distribution, Int, Tensor, TensorData, activation, module};
use distill_ops::{
    AdamW, AttentionBias, Dropout, Precision, Scores, activation_linear, attention, autocast, cross_entropy,
    dropout_add_layer_norm, embedding, gelu, isa, linear, rms_norm, silu_gated, sum_of_squares,
};

const ROUNDS: usize = 9;

/// A row of the table: what is measured, by our kernels in both precisions, and by burn.
struct Case {
    name: &'static str,
    shape: String,
    ours: Box<dyn Fn()>,
    burns: Box<dyn Fn()>,
}

fn main() {
    distill_ops::keep_large_temporaries();
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    println!(
        "instruction set {}, {} threads; milliseconds, median of {ROUNDS}",
        isa(),
        distill_ops::threads()
    );
    println!("{:<34} {:<22} {:>9} {:>9} {:>9} {:>7}", "operation", "shape", "burn", "f32", "bf16", "times");
    for case in cases() {
        if !wanted.is_empty() && !wanted.iter().any(|word| case.name.contains(word.as_str())) {
            continue;
        }
        let in_precision = |precision| autocast(precision, || (case.ours)());
        let mut times = [const { Vec::new() }; 3];
        for _ in 0..=ROUNDS {
            times[0].push(milliseconds(&case.burns));
            times[1].push(milliseconds(&|| in_precision(Precision::F32)));
            times[2].push(milliseconds(&|| in_precision(Precision::Bf16)));
        }
        // The first round warms up.
        let [burn, float, bf16] = times.map(|mut times| median(times.split_off(1)));
        let (name, shape) = (case.name, &case.shape);
        println!("{name:<34} {shape:<22} {burn:>9.3} {float:>9.3} {bf16:>9.3} {:>7.1}", burn / bf16);
    }
}

fn milliseconds(work: &dyn Fn()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64() * 1e3
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn device() -> Device {
    Device::flex().autodiff()
}

fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &device()).require_grad()
}

/// The backward pass from every element of `y`.
fn back<const D: usize>(y: Tensor<D>) {
    std::hint::black_box(y.sum().backward());
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for [rows, inputs, outputs] in [[2048, 384, 384], [2048, 384, 1536], [2048, 1536, 384], [2048, 768, 3072]]
    {
        cases.push(of_linear(rows, inputs, outputs));
    }
    cases.push(of_feed_forward(2048, 1536, 384));
    for [batch, heads, seq, size] in [[16, 12, 128, 32], [16, 12, 128, 64], [32, 12, 32, 32]] {
        cases.push(of_attention(batch, heads, seq, size));
    }
    for [rows, hidden] in [[2048, 384], [2048, 768]] {
        cases.push(of_layer_norm(rows, hidden));
        cases.push(of_rms_norm(rows, hidden));
    }
    for [rows, hidden] in [[2048, 1536], [2048, 3072]] {
        cases.push(of_gelu(rows, hidden));
        cases.push(of_silu(rows, hidden));
    }
    cases.push(of_embedding(30_522, 384, 16, 128));
    cases.push(of_cross_entropy(2048, 4));
    cases.push(of_cross_entropy(512, 30_522));
    cases.push(of_adamw(22_700_000));
    cases.push(of_norm(22_700_000));
    cases
}

fn of_linear(rows: usize, inputs: usize, outputs: usize) -> Case {
    let (x, w, b) = (random([rows, inputs]), random([outputs, inputs]), random([outputs]));
    let (x2, w2, b2) = (x.clone(), w.clone(), b.clone());
    Case {
        name: "linear",
        shape: format!("{rows}x{inputs}x{outputs}"),
        ours: Box::new(move || back(linear(x.clone(), w.clone(), Some(b.clone())))),
        burns: Box::new(move || {
            back(x2.clone().matmul(w2.clone().transpose()) + b2.clone().reshape([1, outputs]));
        }),
    }
}

fn of_feed_forward(rows: usize, inputs: usize, outputs: usize) -> Case {
    let (x, w, b) = (random([rows, inputs]), random([outputs, inputs]), random([outputs]));
    let (x2, w2, b2) = (x.clone(), w.clone(), b.clone());
    Case {
        name: "gelu and linear",
        shape: format!("{rows}x{inputs}x{outputs}"),
        ours: Box::new(move || {
            let activation = distill_ops::Activation::Gelu;
            back(activation_linear(x.clone(), activation, w.clone(), Some(b.clone())));
        }),
        burns: Box::new(move || {
            let x = activation::gelu(x2.clone());
            back(x.matmul(w2.clone().transpose()) + b2.clone().reshape([1, outputs]));
        }),
    }
}

fn of_attention(batch: usize, heads: usize, seq: usize, size: usize) -> Case {
    let shape = [batch, heads, seq, size];
    let [q, k, v] = [(); 3].map(|()| random(shape));
    let [q2, k2, v2] = [q.clone(), k.clone(), v.clone()];
    Case {
        name: "attention, dropout 0.1",
        shape: format!("{batch}x{heads}x{seq}x{size}"),
        ours: Box::new(move || {
            let mut dropout = Dropout::new(1, 2, 3);
            let (q, k, v) = (q.clone(), k.clone(), v.clone());
            let bias = AttentionBias::none();
            back(attention(q, k, v, &bias, 0.1, &mut dropout, Scores::Discard).context);
        }),
        burns: Box::new(move || {
            let scores = (q2.clone() / (size as f64).sqrt()).matmul(k2.clone().transpose());
            let mask = Tensor::<4>::random([batch, heads, seq, seq], Distribution::Bernoulli(0.9), &device());
            back((activation::softmax(scores, 3) * mask / 0.9).matmul(v2.clone()));
        }),
    }
}

fn of_layer_norm(rows: usize, hidden: usize) -> Case {
    let (x, r, w, b) = (random([rows, hidden]), random([rows, hidden]), random([hidden]), random([hidden]));
    let (x2, r2, w2, b2) = (x.clone(), r.clone(), w.clone(), b.clone());
    Case {
        name: "dropout 0.1, add, layer norm",
        shape: format!("{rows}x{hidden}"),
        ours: Box::new(move || {
            let mut dropout = Dropout::new(1, 2, 3);
            let (x, r, w, b) = (x.clone(), r.clone(), w.clone(), b.clone());
            back(dropout_add_layer_norm(x, 0.1, &mut dropout, r, w, b, 1e-12));
        }),
        burns: Box::new(move || {
            let mask = Tensor::<2>::random([rows, hidden], Distribution::Bernoulli(0.9), &device());
            let h = x2.clone() * mask / 0.9 + r2.clone();
            let centred = h.clone() - h.mean_dim(1);
            let variance = (centred.clone() * centred.clone()).mean_dim(1);
            back(centred / (variance + 1e-12).sqrt() * w2.clone().unsqueeze() + b2.clone().unsqueeze());
        }),
    }
}

fn of_rms_norm(rows: usize, hidden: usize) -> Case {
    let (x, w) = (random([rows, hidden]), random([hidden]));
    let (x2, w2) = (x.clone(), w.clone());
    Case {
        name: "rms norm",
        shape: format!("{rows}x{hidden}"),
        ours: Box::new(move || back(rms_norm(x.clone(), w.clone(), 1e-6))),
        burns: Box::new(move || {
            let square = (x2.clone() * x2.clone()).mean_dim(1);
            back(x2.clone() / (square + 1e-6).sqrt() * w2.clone().unsqueeze());
        }),
    }
}

fn of_gelu(rows: usize, hidden: usize) -> Case {
    let x = random([rows, hidden]);
    let x2 = x.clone();
    Case {
        name: "gelu",
        shape: format!("{rows}x{hidden}"),
        ours: Box::new(move || back(gelu(x.clone()))),
        burns: Box::new(move || back(activation::gelu(x2.clone()))),
    }
}

fn of_silu(rows: usize, hidden: usize) -> Case {
    let (gate, up) = (random([rows, hidden]), random([rows, hidden]));
    let (gate2, up2) = (gate.clone(), up.clone());
    Case {
        name: "silu-gated product",
        shape: format!("{rows}x{hidden}"),
        ours: Box::new(move || back(silu_gated(gate.clone(), up.clone()))),
        burns: Box::new(move || back(activation::silu(gate2.clone()) * up2.clone())),
    }
}

fn of_embedding(vocab: usize, hidden: usize, batch: usize, seq: usize) -> Case {
    let weight = random([vocab, hidden]);
    let ids: Vec<i64> = (0..batch * seq).map(|i| (i * 7919 % vocab) as i64).collect();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [batch, seq]), &device());
    let (weight2, ids2) = (weight.clone(), ids.clone());
    Case {
        name: "embedding",
        shape: format!("{vocab}x{hidden}, {}", batch * seq),
        ours: Box::new(move || back(embedding(weight.clone(), ids.clone()))),
        burns: Box::new(move || back(module::embedding(weight2.clone(), ids2.clone()))),
    }
}

fn of_cross_entropy(rows: usize, classes: usize) -> Case {
    let logits = random([rows, classes]);
    let labels: Vec<i64> = (0..rows).map(|i| (i * 7919 % classes) as i64).collect();
    let labels = Tensor::<1, Int>::from_data(TensorData::new(labels, [rows]), &device());
    let (logits2, labels2) = (logits.clone(), labels.clone());
    Case {
        name: "cross-entropy",
        shape: format!("{rows}x{classes}"),
        ours: Box::new(move || back(cross_entropy(logits.clone(), labels.clone(), 0.0).sum)),
        burns: Box::new(move || {
            let log_probs = activation::log_softmax(logits2.clone(), 1);
            back(log_probs.gather(1, labels2.clone().reshape([rows, 1])).neg());
        }),
    }
}

fn flat(len: usize) -> Tensor<1> {
    Tensor::random([len], Distribution::Normal(0.0, 1.0), &Device::flex())
}

fn of_adamw(len: usize) -> Case {
    let gradient = flat(len);
    let gradient2 = gradient.clone();
    let state = std::cell::RefCell::new(Some((flat(len), None)));
    let burns = std::cell::RefCell::new(Some((flat(len), flat(len), flat(len) * 0.0 + 1.0)));
    Case {
        name: "adamw, gradient copied",
        shape: format!("{len}"),
        ours: Box::new(move || {
            let (parameter, moments) = state.take().expect("put back below");
            let (parameter, moments) =
                AdamW::default().step(parameter, gradient.clone(), moments, 1e-4, 0.01, 1.0);
            state.replace(Some((parameter, Some(moments))));
        }),
        burns: Box::new(move || {
            let (parameter, mean, square) = burns.take().expect("put back below");
            let gradient = gradient2.clone();
            let mean = mean * 0.9 + gradient.clone() * 0.1;
            let square = square * 0.999 + gradient.clone() * gradient * 0.001;
            let parameter = parameter * (1.0 - 1e-6) - mean.clone() / (square.clone().sqrt() + 1e-8) * 1e-4;
            burns.replace(Some((parameter, mean, square)));
        }),
    }
}

fn of_norm(len: usize) -> Case {
    let x = flat(len);
    let x2 = x.clone();
    Case {
        name: "sum of squares",
        shape: format!("{len}"),
        ours: Box::new(move || {
            std::hint::black_box(sum_of_squares(x.clone()));
        }),
        burns: Box::new(move || {
            std::hint::black_box((x2.clone() * x2.clone()).sum().into_scalar::<f32>());
        }),
    }
}
