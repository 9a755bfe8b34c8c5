//! What the roles of the job say, one fact a line.
//!
//! ```text
//! at SEGMENT ADDRESS BYTES TIER real|emulated    where the process sees a segment
//! ready                                          others may go on
//! from STEP                                      the worker takes up the job at this step
//! step STEP LOSS                                 the worker has computed so many steps
//! applied STEP                                   the trainer has applied so many
//! digest HEX                                     of the parameters at the end
//! hits HITS HELD-OUT                             digits named rightly, of those never learned
//! ```

use anyhow::{Context as _, bail};

/// Where a process sees a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sight {
    pub(super) segment: String,
    /// As it was written: `0x200000000000`.
    pub(super) address: String,
    pub(super) bytes: u64,
    pub(super) tier: String,
    pub(super) emulated: bool,
}

/// One fact.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fact {
    At(Sight),
    Ready,
    From(u32),
    Step { step: u32, loss: f32 },
    Applied { step: u32 },
    Digest(String),
    Hits { hits: u32, held_out: u32 },
}

impl Fact {
    /// Reads one line.
    pub(super) fn parse(line: &str) -> anyhow::Result<Self> {
        Self::of(line).with_context(|| format!("a line that says nothing known: `{line}`"))
    }

    fn of(line: &str) -> anyhow::Result<Self> {
        let words: Vec<_> = line.split(' ').collect();
        Ok(match *words.as_slice() {
            [
                "at",
                segment,
                address,
                bytes,
                tier,
                kind @ ("real" | "emulated"),
            ] => Self::At(Sight {
                segment: segment.to_owned(),
                address: address.to_owned(),
                bytes: bytes.parse()?,
                tier: tier.to_owned(),
                emulated: kind == "emulated",
            }),
            ["ready"] => Self::Ready,
            ["from", step] => Self::From(step.parse()?),
            ["step", step, loss] => Self::Step {
                step: step.parse()?,
                loss: loss.parse()?,
            },
            ["applied", step] => Self::Applied {
                step: step.parse()?,
            },
            ["digest", digest] => Self::Digest(digest.to_owned()),
            ["hits", hits, held_out] => Self::Hits {
                hits: hits.parse()?,
                held_out: held_out.parse()?,
            },
            _ => bail!("unknown"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_line_is_read() {
        let sight = Sight {
            segment: "weights".into(),
            address: "0x200000400000".into(),
            bytes: 2_097_152,
            tier: "hbm".into(),
            emulated: true,
        };
        for (line, fact) in [
            (
                "at weights 0x200000400000 2097152 hbm emulated",
                Fact::At(sight),
            ),
            ("ready", Fact::Ready),
            ("from 17", Fact::From(17)),
            (
                "step 44 0.125",
                Fact::Step {
                    step: 44,
                    loss: 0.125,
                },
            ),
            ("applied 44", Fact::Applied { step: 44 }),
            (
                "digest 0123456789abcdef",
                Fact::Digest("0123456789abcdef".into()),
            ),
            (
                "hits 352 360",
                Fact::Hits {
                    hits: 352,
                    held_out: 360,
                },
            ),
        ] {
            assert_eq!(Fact::parse(line).unwrap(), fact);
        }
    }

    #[test]
    fn any_other_line_is_refused() {
        for line in [
            "",
            "ready now",
            "from x",
            "at a b c d real",
            "at a 0x1 2 hbm new",
            "hits 3",
        ] {
            let error = Fact::parse(line).unwrap_err().to_string();
            assert!(error.contains(&format!("`{line}`")), "{error}");
        }
    }
}
