//! The model and its arithmetic: one hidden layer, softmax, cross-entropy, momentum.
//!
//! Everything is computed in `f32` and in one fixed order, from values that are read one by one
//! from wherever they lie ([`Values`]): private memory or a mapped segment. So the same inputs give
//! the same bits in every process.
//!
//! # Layout of the parameters
//! `weights from inputs to hidden` (input by input), `biases of hidden`, `weights from hidden to
//! classes` (hidden by hidden), `biases of classes`, without gaps.

use crate::order::Random;

/// Numbers to be read by index, which may refuse.
pub(crate) trait Values {
    /// Why one cannot be read.
    type Error;
    /// The number at `index`.
    fn at(&self, index: usize) -> Result<f32, Self::Error>;
}

/// Digits to be read by row.
pub(crate) trait Examples<E> {
    /// Pixel `index` of `row`.
    fn pixel(&self, row: u32, index: usize) -> Result<f32, E>;
    /// The label of `row`.
    fn label(&self, row: u32) -> Result<u8, E>;
}

/// How many units each layer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) inputs: usize,
    pub(crate) hidden: usize,
    pub(crate) classes: usize,
}

impl Shape {
    /// How many parameters there are.
    pub(crate) const fn parameters(self) -> usize {
        self.class_biases() + self.classes
    }

    const fn hidden_biases(self) -> usize {
        self.inputs * self.hidden
    }

    const fn class_weights(self) -> usize {
        self.hidden_biases() + self.hidden
    }

    const fn class_biases(self) -> usize {
        self.class_weights() + self.hidden * self.classes
    }

    /// The parameters to begin with: small random weights, no biases.
    pub(crate) fn initial(self, seed: u64) -> Vec<f32> {
        let mut random = Random::new(seed, 0);
        let mut layer = |weights: usize, inputs: usize, biases: usize| -> Vec<f32> {
            // The spread that keeps the size of signals from layer to layer (He et al., 2015).
            let spread = (6.0 / inputs as f32).sqrt();
            let mut values: Vec<_> = (0..weights)
                .map(|_| spread * random.signed_unit())
                .collect();
            values.resize(weights + biases, 0.0);
            values
        };
        let mut parameters = layer(self.inputs * self.hidden, self.inputs, self.hidden);
        parameters.extend(layer(self.hidden * self.classes, self.hidden, self.classes));
        parameters
    }
}

/// What one digit makes the layers say.
#[derive(Debug)]
struct Signals {
    hidden: Vec<f32>,
    /// Sum to 1.
    classes: Vec<f32>,
}

/// Passes one digit forward.
fn forward<E>(
    shape: Shape,
    parameters: &impl Values<Error = E>,
    examples: &impl Examples<E>,
    row: u32,
) -> Result<Signals, E> {
    let mut hidden = Vec::with_capacity(shape.hidden);
    for unit in 0..shape.hidden {
        hidden.push(parameters.at(shape.hidden_biases() + unit)?);
    }
    for input in 0..shape.inputs {
        let pixel = examples.pixel(row, input)?;
        for (unit, sum) in hidden.iter_mut().enumerate() {
            *sum += pixel * parameters.at(input * shape.hidden + unit)?;
        }
    }
    for sum in &mut hidden {
        *sum = sum.max(0.0);
    }
    let mut classes = Vec::with_capacity(shape.classes);
    for class in 0..shape.classes {
        classes.push(parameters.at(shape.class_biases() + class)?);
    }
    for (unit, signal) in hidden.iter().enumerate() {
        let weights = shape.class_weights() + unit * shape.classes;
        for (class, sum) in classes.iter_mut().enumerate() {
            *sum += signal * parameters.at(weights + class)?;
        }
    }
    softmax(&mut classes);
    Ok(Signals { hidden, classes })
}

/// Turns sums into shares of 1.
fn softmax(sums: &mut [f32]) {
    // The largest is taken off first, so that no power overflows.
    let largest = sums.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0.0;
    for sum in sums.iter_mut() {
        *sum = (*sum - largest).exp();
        total += *sum;
    }
    for sum in sums {
        *sum /= total;
    }
}

/// The mean gradient over `rows`, and the mean loss.
pub(crate) fn gradient<E>(
    shape: Shape,
    parameters: &impl Values<Error = E>,
    examples: &impl Examples<E>,
    rows: &[u32],
) -> Result<(Vec<f32>, f32), E> {
    let mut sum = vec![0.0; shape.parameters()];
    let mut loss = 0.0;
    for row in rows {
        loss += add_gradient(shape, parameters, examples, *row, &mut sum)?;
    }
    let count = rows.len() as f32;
    for value in &mut sum {
        *value /= count;
    }
    Ok((sum, loss / count))
}

/// Adds the gradient of one digit to `sum`, and returns its loss.
fn add_gradient<E>(
    shape: Shape,
    parameters: &impl Values<Error = E>,
    examples: &impl Examples<E>,
    row: u32,
    sum: &mut [f32],
) -> Result<f32, E> {
    let signals = forward(shape, parameters, examples, row)?;
    let label = usize::from(examples.label(row)?);
    let loss = -signals
        .classes
        .get(label)
        .copied()
        .unwrap_or(0.0)
        .max(f32::MIN_POSITIVE)
        .ln();

    let (below, class_biases) = sum.split_at_mut(shape.class_biases());
    let (below, class_weights) = below.split_at_mut(shape.class_weights());
    let (hidden_weights, hidden_biases) = below.split_at_mut(shape.hidden_biases());

    let error: Vec<_> = signals
        .classes
        .iter()
        .enumerate()
        .map(|(class, share)| if class == label { share - 1.0 } else { *share })
        .collect();
    add(class_biases, &error, 1.0);
    let mut hidden_error = vec![0.0; shape.hidden];
    for (unit, weights) in class_weights.chunks_exact_mut(shape.classes).enumerate() {
        add(weights, &error, signals.hidden[unit]);
        if signals.hidden[unit] > 0.0 {
            let at = shape.class_weights() + unit * shape.classes;
            for (class, error) in error.iter().enumerate() {
                hidden_error[unit] += error * parameters.at(at + class)?;
            }
        }
    }
    add(hidden_biases, &hidden_error, 1.0);
    for (input, weights) in hidden_weights.chunks_exact_mut(shape.hidden).enumerate() {
        add(weights, &hidden_error, examples.pixel(row, input)?);
    }
    Ok(loss)
}

/// `sums += scale * values`.
fn add(sums: &mut [f32], values: &[f32], scale: f32) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += scale * value;
    }
}

/// How fast to learn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) step: f32,
    pub(crate) momentum: f32,
}

/// The state after a step: parameters, then their velocities.
pub(crate) fn updated<E>(
    rate: Rate,
    count: usize,
    state: &impl Values<Error = E>,
    gradient: &impl Values<Error = E>,
) -> Result<Vec<f32>, E> {
    let mut next = vec![0.0; 2 * count];
    let (parameters, velocities) = next.split_at_mut(count);
    for (index, (parameter, velocity)) in parameters.iter_mut().zip(velocities).enumerate() {
        *velocity = rate.momentum * state.at(count + index)? + gradient.at(index)?;
        *parameter = state.at(index)? - rate.step * *velocity;
    }
    Ok(next)
}

/// How many of `rows` the model names rightly.
pub(crate) fn hits<E>(
    shape: Shape,
    parameters: &impl Values<Error = E>,
    examples: &impl Examples<E>,
    rows: &[u32],
) -> Result<usize, E> {
    let mut hits = 0;
    for row in rows {
        let shares = forward(shape, parameters, examples, *row)?.classes;
        let best = shares
            .iter()
            .enumerate()
            .max_by(|(_, a), (_, b)| a.total_cmp(b));
        let label = usize::from(examples.label(*row)?);
        hits += usize::from(best.is_some_and(|(class, _)| class == label));
    }
    Ok(hits)
}

/// A number that differs, but for one chance in 2^64, where one bit of the parameters does: FNV-1a.
pub(crate) fn digest<E>(count: usize, parameters: &impl Values<Error = E>) -> Result<u64, E> {
    let mut digest = 0xcbf2_9ce4_8422_2325_u64;
    for index in 0..count {
        for byte in parameters.at(index)?.to_le_bytes() {
            digest = (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    Ok(digest)
}

#[cfg(test)]
mod tests;
