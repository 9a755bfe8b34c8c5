//! Charts of figures as SVG, for reports: one text each, that any browser shows.
//!
//! [`bars`]: figures of different things beside each other, each with its range, on a logarithmic
//! axis. [`curves`]: how one figure goes with another one, beside ranges that are known of it.
//! Names no crate, reads nothing and writes nothing: who has the text puts it where it belongs.
//!
//! # Invariants
//! 1. Nothing is drawn outside of the picture, whatever the figures: what is not a number, or not
//!    above zero on a logarithmic axis, is at the edge.
//! 2. Text is escaped: a name cannot be markup.
//! 3. The same figures are the same text.

#![forbid(unsafe_code)]

mod bars;
mod curves;
mod scale;

pub use bars::{Bar, Row, bars};
pub use curves::{Axis, Curve, Mark, Plot, curves};
pub use scale::Spacing;

/// Text as it may stand in a picture.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Pixels that a text takes, about: what a viewer's letters are is not known.
fn width_of(text: &str) -> f64 {
    text.chars().map(|_| 7.0).sum()
}

/// The same of a title, with what is before and after it.
fn title_width(title: &str) -> f64 {
    width_of(title) * 1.25 + 16.0
}

/// The head of a picture: its size, its background, and its title.
fn head(width: f64, height: f64, title: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"8\" y=\"22\" font-size=\"15\">{}</text>\n",
        escaped(title)
    )
}
