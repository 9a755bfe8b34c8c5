//! What the words of all domains say, for who checks the pool.

use coherence::check::{Census, Violation, check};
use pool_core::descriptor::Descriptor;
use pool_proto::admin::v1::{CheckReport, DomainCheck};

use crate::engine::DomainView;
use crate::reactor::Reactor;

/// Findings that a check names of one domain.
pub(super) const FINDINGS_MAX: usize = 8;

impl Reactor {
    /// Looks at every word of every domain.
    pub(in crate::reactor) fn check_domains(&self, report: &mut CheckReport) {
        for domain in self.engine.domains() {
            let Ok(directory) = self.domains.directory(domain.directory) else {
                continue; // Its descriptor is awaited, or it is being recovered.
            };
            let (row, found) = audit(&domain, directory.lines());
            report.domains.push(row);
            report.findings.extend(found);
        }
    }
}

/// What the words of a domain say, and what is wrong with them. What is held in slots that are
/// still to be recovered is no finding, nor is what is fenced while it is decided.
pub(super) fn audit(domain: &DomainView, lines: &[Descriptor]) -> (DomainCheck, Vec<String>) {
    let (mut findings, mut violations) = (Vec::new(), 0_u32);
    let census = check(lines, domain.members | domain.left, |violation| {
        if domain.settling && matches!(violation, Violation::LeftFenced { .. }) {
            return;
        }
        violations = violations.saturating_add(1);
        if findings.len() < FINDINGS_MAX {
            findings.push(format!("domain of {}: {violation}", domain.segment));
        }
    });
    let more = usize::try_from(violations).unwrap_or(usize::MAX);
    if let more @ 1.. = more.saturating_sub(findings.len()) {
        findings.push(format!("domain of {}: {more} more", domain.segment));
    }
    let Census {
        free,
        shared,
        exclusive,
        fenced,
        lost,
        retired,
    } = census;
    let row = DomainCheck {
        segment_id: domain.segment.number(),
        members: domain.members.count_ones(),
        units: domain.layout.units(),
        free,
        shared,
        exclusive,
        fenced,
        lost,
        retired,
        violations,
    };
    (row, findings)
}
