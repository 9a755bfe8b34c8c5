//! Curves: how one figure goes with another one, with ranges that are known of either.

use core::fmt::Write as _;

use crate::scale::{Scale, Spacing};
use crate::{escaped, head, title_width, width_of};

const LEFT: f64 = 90.0;
const TOP: f64 = 44.0;
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const RIGHT: f64 = 40.0;
/// Of the figures beside the horizontal axis and its label.
const BELOW: f64 = 52.0;
/// A line of the legend, and from its beginning to the name.
const LINE: f64 = 18.0;
const NAMES: f64 = 38.0;
/// Of curves; after the last the first again.
const COLOURS: [&str; 8] = [
    "#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2",
];
/// Of marks.
const DASHES: [&str; 4] = ["6 3", "2 3", "10 3 2 3", "1 2"];

/// What lies along an edge of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Axis {
    /// What the figures are, and their unit.
    pub label: String,
    /// How they are spaced.
    pub spacing: Spacing,
}

/// Figures that belong together, in the order in which they are joined by lines.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// What they are of.
    pub name: String,
    /// Along the horizontal axis and along the vertical one.
    pub points: Vec<(f64, f64)>,
}

/// What is known of a figure from elsewhere: a range of either axis, of any figure of the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// What it is, and who says so.
    pub name: String,
    /// Along the horizontal axis.
    pub across: Option<(f64, f64)>,
    /// Along the vertical axis.
    pub up: Option<(f64, f64)>,
}

/// What is on one picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    /// What it shows.
    pub title: String,
    /// The horizontal axis.
    pub across: Axis,
    /// The vertical axis.
    pub up: Axis,
    /// In the order of the legend.
    pub curves: Vec<Curve>,
    /// After the curves.
    pub marks: Vec<Mark>,
}

/// From figures to places in the picture.
struct Frame {
    across: Scale,
    up: Scale,
}

impl Frame {
    fn of(plot: &Plot) -> Self {
        let points = || plot.curves.iter().flat_map(|curve| &curve.points);
        let ends =
            |range: Option<(f64, f64)>| range.into_iter().flat_map(|(low, high)| [low, high]);
        let across = plot.marks.iter().flat_map(|mark| ends(mark.across));
        let up = plot.marks.iter().flat_map(|mark| ends(mark.up));
        Self {
            across: Scale::over(
                plot.across.spacing,
                points().map(|point| point.0).chain(across),
            ),
            up: Scale::over(plot.up.spacing, points().map(|point| point.1).chain(up)),
        }
    }

    fn x(&self, figure: f64) -> f64 {
        LEFT + self.across.at(figure) * WIDTH
    }

    fn y(&self, figure: f64) -> f64 {
        TOP + (1.0 - self.up.at(figure)) * HEIGHT
    }
}

/// A picture of them.
#[must_use]
pub fn curves(plot: &Plot) -> String {
    let frame = Frame::of(plot);
    let entries = plot.curves.iter().map(|_| LINE).sum::<f64>()
        + plot.marks.iter().map(|_| LINE).sum::<f64>();
    let height = TOP + HEIGHT + BELOW + entries + LINE;
    let names = plot.curves.iter().map(|curve| curve.name.as_str());
    let names = names.chain(plot.marks.iter().map(|mark| mark.name.as_str()));
    let longest = names.map(width_of).fold(0.0, f64::max);
    let width = (LEFT + WIDTH + RIGHT).max(LEFT + NAMES + longest + 8.0);
    let mut svg = head(width.max(title_width(&plot.title)), height, &plot.title);
    axes(&mut svg, plot, &frame);
    for (mark, dash) in plot.marks.iter().zip(DASHES.iter().cycle()) {
        draw_mark(&mut svg, &frame, mark, dash);
    }
    for (curve, colour) in plot.curves.iter().zip(COLOURS.iter().cycle()) {
        draw_curve(&mut svg, &frame, curve, colour);
    }
    legend(&mut svg, plot);
    svg.push_str("</svg>\n");
    svg
}

/// Writing to a string does not fail: the outcome of `writeln` is let go of in all of this file.
fn axes(svg: &mut String, plot: &Plot, frame: &Frame) {
    let bottom = TOP + HEIGHT;
    for tick in frame.across.ticks() {
        let x = frame.x(tick);
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\" stroke=\"#e0e0e0\"/>\n\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            bottom + 16.0,
            short(tick)
        );
    }
    for tick in frame.up.ticks() {
        let y = frame.y(tick);
        let right = LEFT + WIDTH;
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#e0e0e0\"/>\n\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            y + 4.0,
            short(tick)
        );
    }
    let (middle, half) = (LEFT + WIDTH / 2.0, TOP + HEIGHT / 2.0);
    let _ = writeln!(
        svg,
        "<rect x=\"{LEFT}\" y=\"{TOP}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"none\" \
         stroke=\"black\"/>\n\
         <text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n\
         <text x=\"20\" y=\"{half}\" text-anchor=\"middle\" \
         transform=\"rotate(-90 20 {half})\">{}</text>",
        bottom + 36.0,
        escaped(&plot.across.label),
        escaped(&plot.up.label),
    );
}

/// A band where it is a range, and a dashed line at each of its ends.
fn draw_mark(svg: &mut String, frame: &Frame, mark: &Mark, dash: &str) {
    let x = mark.across.map_or((LEFT, LEFT + WIDTH), |(low, high)| {
        (frame.x(low), frame.x(high))
    });
    let y = mark.up.map_or((TOP, TOP + HEIGHT), |(low, high)| {
        (frame.y(high), frame.y(low))
    });
    let _ = writeln!(
        svg,
        "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#808080\" \
         fill-opacity=\"0.12\" stroke=\"#606060\" stroke-dasharray=\"{dash}\"/>",
        x.0,
        y.0,
        x.1 - x.0,
        y.1 - y.0,
    );
}

fn draw_curve(svg: &mut String, frame: &Frame, curve: &Curve, colour: &str) {
    let mut line = String::new();
    for &(across, up) in &curve.points {
        let (x, y) = (frame.x(across), frame.y(up));
        let _ = write!(line, "{x:.1},{y:.1} ");
        let _ = writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"{colour}\"/>"
        );
    }
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
        line.trim_end()
    );
}

fn legend(svg: &mut String, plot: &Plot) {
    let mut y = TOP + HEIGHT + BELOW;
    let mut entry = |name: &str, stroke: &str| {
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\" {stroke}/>\n\
             <text x=\"{}\" y=\"{}\">{}</text>",
            LEFT + 30.0,
            LEFT + NAMES,
            y + 4.0,
            escaped(name)
        );
        y += LINE;
    };
    for (curve, colour) in plot.curves.iter().zip(COLOURS.iter().cycle()) {
        entry(
            &curve.name,
            &format!("stroke=\"{colour}\" stroke-width=\"2\""),
        );
    }
    for (mark, dash) in plot.marks.iter().zip(DASHES.iter().cycle()) {
        entry(
            &mark.name,
            &format!("stroke=\"#606060\" stroke-dasharray=\"{dash}\""),
        );
    }
}

/// A round figure without zeros after the point.
fn short(figure: f64) -> String {
    if figure != 0.0 && (figure.abs() >= 1e6 || figure.abs() < 1e-3) {
        return format!("{figure:.0e}");
    }
    let text = format!("{figure:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(label: &str, spacing: Spacing) -> Axis {
        Axis {
            label: label.to_owned(),
            spacing,
        }
    }

    #[test]
    fn a_picture_has_every_curve_and_mark_within_its_frame() {
        let plot = Plot {
            title: "latency < load".to_owned(),
            across: axis("GB/s", Spacing::Linear),
            up: axis("ns", Spacing::Logarithmic),
            curves: vec![
                Curve {
                    name: "direct".to_owned(),
                    points: vec![(0.0, 100.0), (20.0, 300.0), (f64::NAN, 0.0)],
                },
                Curve {
                    name: "nothing".to_owned(),
                    points: Vec::new(),
                },
            ],
            marks: vec![Mark {
                name: "published, A & B".to_owned(),
                across: None,
                up: Some((90.0, 5000.0)),
            }],
        };
        let svg = curves(&plot);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        for text in [
            "latency &lt; load",
            "direct",
            "nothing",
            "published, A &amp; B",
            "GB/s",
        ] {
            assert!(svg.contains(text), "{text}");
        }
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        let heights = svg
            .split("cy=\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next());
        for y in heights.map(|text| text.parse::<f64>().unwrap()) {
            assert!((TOP..=TOP + HEIGHT).contains(&y), "{y}");
        }
    }

    #[test]
    fn a_tick_is_written_without_what_says_nothing() {
        assert_eq!(
            [0.0, 0.5, 20.0, 1000.0, 1e7, 1e-5].map(short),
            ["0", "0.5", "20", "1000", "1e7", "1e-5"]
        );
    }
}
