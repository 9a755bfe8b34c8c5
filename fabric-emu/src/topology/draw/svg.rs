//! An SVG that needs nothing else.

use core::fmt::{self, Write};

use super::layout::{Box, LINE, Layout, Line, MARGIN, title};
use super::words;
use crate::id::Node;
use crate::topology::Topology;

const STYLE: &str = "\
svg{background:#fff;font:13px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace}\
text{fill:#1f2933}\
rect{stroke:#52606d;stroke-width:1.5}\
.host rect{fill:#dbeafe}.switch rect{fill:#fef3c7}.memdev rect{fill:#dcfce7}\
.title{font-size:15px;font-weight:bold}.name{font-weight:bold}\
.port{font-size:11px;fill:#52606d;text-anchor:middle}\
.link{stroke:#52606d}\
.width{font-size:12px;text-anchor:middle;paint-order:stroke;stroke:#fff;stroke-width:5px}";

/// The topology as an SVG: hosts above, then switches, then memory devices, with a line for each
/// link, as thick as it is wide.
#[must_use]
pub fn svg(topology: &Topology) -> String {
    struct Picture<'t>(&'t Topology);
    impl fmt::Display for Picture<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write_all(f, self.0)
        }
    }
    Picture(topology).to_string()
}

fn write_all(out: &mut impl Write, topology: &Topology) -> fmt::Result {
    let Layout {
        width,
        height,
        boxes,
        lines,
    } = Layout::of(topology);
    let title = Escaped(&title(topology)).to_string();
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" width=\"{width}\" \
         height=\"{height}\" viewBox=\"0 0 {width} {height}\">"
    )?;
    writeln!(out, "<title>{title}</title>")?;
    writeln!(out, "<style>{STYLE}</style>")?;
    let y = MARGIN + LINE;
    writeln!(
        out,
        "<text class=\"title\" x=\"{MARGIN}\" y=\"{y}\">{title}</text>"
    )?;
    // Under the boxes, so that one which passes a row is hidden by what it passes.
    for one in &lines {
        line(out, topology, one)?;
    }
    for one in &boxes {
        square(out, one)?;
    }
    for one in &lines {
        labels(out, one)?;
    }
    writeln!(out, "</svg>")
}

fn line(out: &mut impl Write, topology: &Topology, line: &Line<'_>) -> fmt::Result {
    let ((x1, y1), (x2, y2)) = (line.up, line.down);
    let thick = 1 + line.link.lanes.checked_ilog2().unwrap_or(0);
    let ends = [line.link.up, line.link.down].map(|port| topology.end(port));
    let about = format!("{} - {}, {}", ends[0], ends[1], words::link(line.link));
    writeln!(
        out,
        "<line class=\"link\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\" \
         stroke-width=\"{thick}\"><title>{}</title></line>",
        Escaped(&about)
    )
}

fn square(out: &mut impl Write, one: &Box) -> fmt::Result {
    let class = match one.node {
        Node::Host(_) => "host",
        Node::Switch(_) => "switch",
        Node::Memdev(_) => "memdev",
    };
    let Box {
        x,
        y,
        width,
        height,
        ..
    } = one;
    writeln!(out, "<g class=\"{class}\">")?;
    writeln!(
        out,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"6\"/>"
    )?;
    let (x, mut y) = (x + LINE / 2, y + 2 * LINE);
    let name = Escaped(&one.name);
    writeln!(
        out,
        "<text class=\"name\" x=\"{x}\" y=\"{y}\">{name}</text>"
    )?;
    for line in &one.lines {
        y += LINE;
        // Spaces at the beginning would not be shown.
        let words = line.trim_start();
        let x = x + LINE / 2 * (line.len() - words.len());
        writeln!(out, "<text x=\"{x}\" y=\"{y}\">{}</text>", Escaped(words))?;
    }
    writeln!(out, "</g>")
}

/// The width of a link on it, and the numbers of its ports inside the boxes.
fn labels(out: &mut impl Write, line: &Line<'_>) -> fmt::Result {
    let (x, y) = line.label;
    let lanes = line.link.lanes;
    writeln!(
        out,
        "<text class=\"width\" x=\"{x}\" y=\"{y}\">x{lanes}</text>"
    )?;
    let (x, y) = (line.up.0, line.up.1.saturating_sub(5));
    let port = line.link.up.port.0;
    writeln!(
        out,
        "<text class=\"port\" x=\"{x}\" y=\"{y}\">{port}</text>"
    )?;
    let (x, y) = (line.down.0, line.down.1 + 12);
    let port = line.link.down.port.0;
    writeln!(
        out,
        "<text class=\"port\" x=\"{x}\" y=\"{y}\">{port}</text>"
    )
}

/// Text as XML has it: what XML has no place for is a question mark.
struct Escaped<'t>(&'t str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\u{fffe}' | '\u{ffff}' => f.write_char('?')?,
                control if control.is_control() => f.write_char('?')?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}
