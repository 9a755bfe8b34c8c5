//! Spans of time on the command line: `10s`, `500ms`, `2m`; a bare number is seconds.

use std::time::Duration;

/// The longest that makes sense.
const SPAN_MAX: Duration = Duration::from_secs(24 * 3600);

/// Write a span as a whole number and ms, s, m or h, from 1ms to 24h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a span of time: write a whole number and ms, s, m or h, from 1ms to 24h, as in \"10s\""
)]
pub(crate) struct ParseSpanError;

pub(crate) fn parse(text: &str) -> Result<Duration, ParseSpanError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| ParseSpanError)?;
    let scale_ms = match unit.trim() {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(ParseSpanError),
    };
    let span = number.checked_mul(scale_ms).map(Duration::from_millis);
    span.filter(|span| !span.is_zero() && *span <= SPAN_MAX)
        .ok_or(ParseSpanError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_with_their_unit() {
        for (text, ms) in [
            ("10s", 10_000),
            ("500ms", 500),
            ("2 m", 120_000),
            ("24h", 86_400_000),
            ("3", 3_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn what_is_no_span_is_refused() {
        for text in [
            "",
            "s",
            "0",
            "0ms",
            "-1s",
            "1.5s",
            "25h",
            "1d",
            "99999999999999999999s",
        ] {
            assert_eq!(parse(text), Err(ParseSpanError), "{text}");
        }
    }
}
