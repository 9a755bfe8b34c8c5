//! Pictures of a topology: a tree of text, and an SVG. The same topology has the same picture.
//!
//! A topology that [`Topology::check`](super::Topology::check) refuses is drawn as well, whatever
//! can be told of it: both end, and neither panics.

mod layout;
mod svg;
mod text;
mod words;

pub use svg::svg;
pub use text::text;
