//! The arithmetic against dumb and exact oracles.

use super::*;
use crate::memory::Missing;

const SMALL: Shape = Shape {
    inputs: 3,
    hidden: 4,
    classes: 2,
};

/// Two digits of three pixels.
struct Toy;

impl Examples<Missing> for Toy {
    fn pixel(&self, row: u32, index: usize) -> Result<f32, Missing> {
        [[0.5, -0.25, 1.0], [0.125, 0.75, -0.5]][row as usize]
            .as_slice()
            .at(index)
    }

    fn label(&self, row: u32) -> Result<u8, Missing> {
        Ok(if row == 0 { 1 } else { 0 })
    }
}

fn loss(parameters: &[f32]) -> f32 {
    gradient(SMALL, &parameters.to_vec(), &Toy, &[0, 1])
        .unwrap()
        .1
}

#[test]
fn the_gradient_is_the_slope_of_the_loss() {
    for seed in 0..8 {
        let mut parameters = SMALL.initial(seed);
        let (slopes, _) = gradient(SMALL, &parameters, &Toy, &[0, 1]).unwrap();
        for index in 0..SMALL.parameters() {
            let (kept, step) = (parameters[index], 1.0 / 256.0);
            parameters[index] = kept + step;
            let above = loss(&parameters);
            parameters[index] = kept - step;
            let below = loss(&parameters);
            parameters[index] = kept;
            let measured = (above - below) / (2.0 * step);
            let error = (slopes[index] - measured).abs();
            assert!(
                error < 2e-3,
                "seed {seed}, parameter {index}: {} {measured}",
                slopes[index]
            );
        }
    }
}

#[test]
fn steps_along_the_gradient_reduce_the_loss() {
    let mut state = SMALL.initial(1);
    let before = loss(&state);
    state.resize(2 * SMALL.parameters(), 0.0);
    for _ in 0..50 {
        let (slopes, _) = gradient(SMALL, &state, &Toy, &[0, 1]).unwrap();
        let rate = Rate {
            step: 0.1,
            momentum: 0.9,
        };
        state = updated(rate, SMALL.parameters(), &state, &slopes).unwrap();
    }
    let after = loss(&state[..SMALL.parameters()]);
    assert!(after < before / 10.0, "{before} to {after}");
    assert_eq!(hits(SMALL, &state, &Toy, &[0, 1]).unwrap(), 2);
}

#[test]
fn momentum_carries_the_last_step_on() {
    let rate = Rate {
        step: 0.5,
        momentum: 0.25,
    };
    let next = updated(rate, 1, &vec![1.0, 8.0], &vec![2.0]).unwrap();
    assert_eq!(next, [1.0 - 0.5 * 4.0, 4.0]);
}

#[test]
fn shares_sum_to_one_however_large_the_sums() {
    let mut sums = [1_000.0, 999.0, -1_000.0];
    softmax(&mut sums);
    assert!((sums.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    assert!(sums[0] > sums[1] && sums[1] > sums[2]);
}

#[test]
fn one_bit_changes_the_digest() {
    let values = SMALL.initial(1);
    let same = digest(values.len(), &values).unwrap();
    assert_eq!(same, digest(values.len(), &values.clone()).unwrap());
    for index in 0..values.len() {
        let mut other = values.clone();
        other[index] = f32::from_bits(other[index].to_bits() ^ 1);
        assert_ne!(same, digest(other.len(), &other).unwrap(), "value {index}");
    }
}

#[test]
fn a_value_that_cannot_be_read_ends_the_step() {
    let short = SMALL.initial(1)[1..].to_vec();
    assert_eq!(
        gradient(SMALL, &short, &Toy, &[0]).unwrap_err().to_string(),
        format!("there is no value {}", SMALL.parameters() - 1)
    );
}
