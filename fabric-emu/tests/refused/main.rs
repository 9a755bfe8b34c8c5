//! Commands that are malformed, or may not be done here and now: a table of them, each with the
//! return code that it gets. A fabric that has refused one is as it was before.
//!
//! A row is an interface, a payload with what is changed in it, a code, and the rule in a few
//! words. Payloads that rows begin with are accepted in the same fabric, so that what is refused
//! is refused for what was changed.
//!
//! # Files
//! [`row`]: what a row is. [`rig`]: the fabric and its situations. [`base`]: payloads that are
//! accepted. The rows: [`shape`] by lengths and interfaces, [`message`] by headers and ways,
//! [`component`], [`mailbox`], [`host`], [`switch`], [`pool`], [`add`] and [`remove`] by fields,
//! [`state`] by the situation.

#[cfg(test)]
mod add;
#[cfg(test)]
mod base;
#[cfg(test)]
mod component;
#[cfg(test)]
mod host;
#[cfg(test)]
mod mailbox;
#[cfg(test)]
mod message;
#[cfg(test)]
mod pool;
#[cfg(test)]
mod remove;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod row;
#[cfg(test)]
mod shape;
#[cfg(test)]
mod state;
#[cfg(test)]
mod switch;

use std::collections::BTreeMap;

use fabric_emu::cci::ReturnCode;

use rig::{Rig, Situation};
use row::{Answer, Row};

fn rows() -> Vec<Row> {
    let tables = [
        shape::rows(),
        message::rows(),
        component::rows(),
        mailbox::rows(),
        host::rows(),
        switch::rows(),
        pool::rows(),
        add::rows(),
        remove::rows(),
        state::rows(),
    ];
    tables.into_iter().flatten().collect()
}

/// All of the fabric, but for the number of what happened to it: that something was refused has
/// happened.
fn state(rig: &Rig) -> String {
    let happened = format!("Trace({})", rig.fabric.trace());
    let all = format!("{:?}", rig.fabric);
    assert!(all.contains(&happened));
    all.replace(&happened, "")
}

/// What differs from the row, if anything does. The rig is as it was, or is made so.
fn differs(rig: &mut Rig, before: &str, row: &Row) -> Vec<String> {
    let old = rig.fabric.clone();
    let (mut all, answer) = (Vec::new(), rig.send(row));
    if answer != row.answer {
        all.push(format!("the answer was {answer}"));
    }
    if state(rig) != before {
        all.push("the fabric has changed".to_owned());
        rig.fabric = old;
    }
    all.extend(rig.broken());
    all
}

#[test]
fn what_is_refused_has_its_code_and_changes_nothing() {
    let all = rows();
    let (mut wrong, mut by_command, mut by_answer) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    for situation in Situation::ALL {
        let mut rig = Rig::in_situation(situation);
        assert_eq!(rig.broken(), [""; 0], "{situation:?}");
        let before = state(&rig);
        for row in all.iter().filter(|row| row.situation == situation) {
            println!("{row}");
            *by_command.entry(row.command()).or_insert(0) += 1;
            *by_answer.entry(row.answer.to_string()).or_insert(0) += 1;
            let what = differs(&mut rig, &before, row);
            wrong.extend(what.into_iter().map(|what| format!("{row}: {what}")));
        }
    }
    let rows: usize = by_answer.values().sum();
    println!("{rows} rows\nby command: {by_command:?}\nby answer: {by_answer:#?}");
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert_eq!(rows, all.len(), "each row is in one situation");
    assert!(rows >= 500, "{rows} rows");
}

#[test]
fn what_rows_begin_with_is_accepted() {
    let rig = Rig::in_situation(Situation::Rich);
    for row in base::accepted() {
        let mut rig = rig.clone();
        let answer = rig.send(&row);
        let is_begun = answer == Answer::Code(ReturnCode::BackgroundCommandStarted);
        assert!(is_begun || answer == row.answer, "{row}: {answer}");
    }
}

#[test]
fn no_two_rows_are_the_same() {
    let (mut seen, mut twice) = (BTreeMap::new(), Vec::new());
    for row in rows() {
        let key = (
            format!("{:?}{:?}", row.situation, row.cci),
            row.message.clone(),
        );
        if let Some(other) = seen.insert(key, row.to_string()) {
            twice.push(format!("{row}\n  is {other}"));
        }
    }
    assert!(twice.is_empty(), "{}", twice.join("\n"));
}
