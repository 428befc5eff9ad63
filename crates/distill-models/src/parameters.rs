//! Walks over the parameters of a module, by their names in a checkpoint.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};

/// A parameter as a checkpoint knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterInfo {
    /// Hugging Face's tensor name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// The gradients of a module's parameters, flat, in parameter order; those without one are left out.
pub(crate) fn take_gradients(module: &impl Module, grads: &mut Gradients) -> Vec<(String, Tensor<1>)> {
    let mut found = Vec::new();
    module.visit(&mut Visitor::new(|info: &ParameterInfo, value: &dyn Value| {
        if let Some(grad) = value.gradient(grads) {
            found.push((info.name.clone(), grad));
        }
    }));
    found
}

/// The names of a module's parameters that get gradients, in parameter order.
pub(crate) fn trainable_names(module: &impl Module) -> Vec<String> {
    let mut names = Vec::new();
    module.visit(&mut Visitor::new(|info: &ParameterInfo, value: &dyn Value| {
        if value.is_trainable() {
            names.push(info.name.clone());
        }
    }));
    names
}

/// The names of the modules that a walk is inside of, in the words of a checkpoint.
#[derive(Default)]
struct Path(Vec<String>);

impl Path {
    fn enter(&mut self, name: &str) {
        // `self` cannot be a field: `attention.self` is `attention.self_` in Rust.
        self.0.push(name.strip_suffix('_').unwrap_or(name).to_owned());
    }

    fn exit(&mut self) {
        self.0.pop();
    }

    fn info(&self, shape: &[usize]) -> ParameterInfo {
        ParameterInfo { name: self.0.join("."), shape: shape.to_vec() }
    }
}

/// A parameter whose rank has been forgotten.
pub(crate) trait Value {
    fn flat(&self) -> Tensor<1>;
    fn gradient(&self, grads: &mut Gradients) -> Option<Tensor<1>>;
    fn is_trainable(&self) -> bool;
}

impl<const D: usize> Value for Param<Tensor<D>> {
    fn flat(&self) -> Tensor<1> {
        flatten(self.val().without_autodiff())
    }

    fn gradient(&self, grads: &mut Gradients) -> Option<Tensor<1>> {
        self.val().grad_remove(grads).map(flatten)
    }

    fn is_trainable(&self) -> bool {
        self.is_require_grad()
    }
}

fn flatten<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let len = tensor.dims().iter().product::<usize>();
    tensor.reshape([len])
}

/// Shows each parameter of floats.
pub(crate) struct Visitor<F> {
    path: Path,
    f: F,
}

impl<F: FnMut(&ParameterInfo, &dyn Value)> Visitor<F> {
    pub(crate) fn new(f: F) -> Self {
        Self { path: Path::default(), f }
    }
}

impl<F: FnMut(&ParameterInfo, &dyn Value)> ModuleVisitor for Visitor<F> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let info = self.path.info(&param.dims());
        (self.f)(&info, param);
    }
}

/// Puts what `f` makes of a parameter in its place.
pub(crate) struct Updater<'a> {
    path: Path,
    f: &'a mut dyn FnMut(&ParameterInfo, Tensor<1>) -> Tensor<1>,
}

impl<'a> Updater<'a> {
    pub(crate) fn new(f: &'a mut dyn FnMut(&ParameterInfo, Tensor<1>) -> Tensor<1>) -> Self {
        Self { path: Path::default(), f }
    }
}

impl ModuleMapper for Updater<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let require_grad = param.is_require_grad();
        let (id, value, mapper) = param.consume();
        let shape = value.dims();
        let strategy = value.gradient_checkpointing_strategy();
        let next = (self.f)(&self.path.info(&shape), flatten(value.without_autodiff())).reshape(shape);
        let next = match strategy {
            Some(strategy) => next
                .autodiff()
                .with_gradient_checkpointing_strategy(strategy)
                .detach()
                .set_require_grad(require_grad),
            None => next,
        };
        Param::from_mapped_value(id, next, mapper)
    }
}

/// Says which parameters get gradients.
pub(crate) struct Freezer<'a> {
    path: Path,
    trainable: &'a dyn Fn(&str) -> bool,
}

impl<'a> Freezer<'a> {
    pub(crate) fn new(trainable: &'a dyn Fn(&str) -> bool) -> Self {
        Self { path: Path::default(), trainable }
    }
}

impl ModuleMapper for Freezer<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let trainable = (self.trainable)(&self.path.info(&[]).name);
        param.set_require_grad(trainable)
    }
}
