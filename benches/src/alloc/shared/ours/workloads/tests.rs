//! Members are threads here, and the heap is a table: it finds a block that is freed twice, or
//! handed over before it was published, or never freed.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use pool_core::sync::{Mutex, lock, thread};

use super::super::super::line::Asked;
use super::super::super::workloads::WORKLOADS;
use super::super::board::Board;
use super::super::heap::SharedHeap;
use super::super::{line, work_over};
use super::Account;
use crate::alloc::private::Run;

#[derive(Debug)]
struct Entry {
    owner: usize,
    word: u64,
    published: bool,
}

#[derive(Debug, Default)]
struct Table {
    blocks: Mutex<BTreeMap<usize, Entry>>,
    taken: Mutex<usize>,
}

#[derive(Debug)]
struct Heap<'a>(&'a Table, usize);

impl SharedHeap for Heap<'_> {
    fn allocate(&mut self, bytes: usize) -> anyhow::Result<usize> {
        ensure!(bytes >= 8, "too small");
        let mut taken = lock(&self.0.taken);
        *taken += 1;
        let entry = Entry {
            owner: self.1,
            word: 0,
            published: false,
        };
        lock(&self.0.blocks).insert(*taken, entry);
        Ok(*taken)
    }

    fn publish(&mut self, at: usize) -> anyhow::Result<()> {
        let mut blocks = lock(&self.0.blocks);
        let entry = blocks.get_mut(&at).context("no block")?;
        ensure!(!entry.published && entry.owner == self.1, "published twice");
        entry.published = true;
        Ok(())
    }

    fn free(&mut self, at: usize) -> anyhow::Result<()> {
        let entry = lock(&self.0.blocks).remove(&at).context("freed twice")?;
        ensure!(entry.published, "freed before it was published");
        Ok(())
    }

    fn resolve(&self, at: usize) -> anyhow::Result<()> {
        let blocks = lock(&self.0.blocks);
        ensure!(
            blocks.get(&at).is_some_and(|entry| entry.published),
            "not published"
        );
        Ok(())
    }

    fn write(&mut self, at: usize, word: u64) -> anyhow::Result<()> {
        let mut blocks = lock(&self.0.blocks);
        blocks.get_mut(&at).context("no block")?.word = word;
        Ok(())
    }

    fn read(&self, at: usize) -> anyhow::Result<u64> {
        let blocks = lock(&self.0.blocks);
        let entry = blocks.get(&at).context("no block")?;
        ensure!(entry.published, "read before it was published");
        Ok(entry.word)
    }
}

fn accounts(asked: &Asked) -> Vec<Account> {
    let (board, table) = (Board::create(asked.processes).unwrap(), Table::default());
    let (board, table) = (&board, &table);
    let member = |number| {
        let heap = || Ok(Heap(table, number));
        let look = || Ok(vec![(1, number as u64)]);
        let done = work_over(asked, board, number, heap, &look);
        if done.is_err() {
            board.fail().unwrap();
        }
        done.unwrap()
    };
    let accounts = thread::scope(|scope| {
        let members = 0..usize::try_from(asked.processes).unwrap();
        let threads: Vec<_> = members
            .map(|number| scope.spawn(move || member(number)))
            .collect();
        let joined = threads.into_iter().map(|thread| thread.join().unwrap());
        joined.collect::<Vec<_>>()
    });
    let left = lock(&table.blocks).len();
    assert_eq!(left, 0, "{asked:?} leaves blocks");
    accounts
}

#[test]
fn each_workload_does_what_it_is_asked_and_leaves_nothing() {
    for workload in WORKLOADS {
        for &processes in workload.processes {
            for run in [Run::SMOKE, Run::SMOKE.tail()] {
                let asked = Asked::new(&workload, processes, run);
                let line = line(&asked, &accounts(&asked));
                let text = serde_json::to_string(&line).unwrap();
                super::super::super::line::Line::read(&text, &asked).unwrap();
                assert_eq!(line.live_bytes > 0, line.held_bytes > 0);
                assert!(!workload.counts.held || line.live_bytes > 0);
            }
        }
    }
}

#[test]
fn who_does_the_same_tells_the_same_sequence() {
    let workload = WORKLOADS.iter().find(|workload| workload.name == "random");
    let asked = Asked::new(workload.unwrap(), 2, Run::SMOKE);
    let first = line(&asked, &accounts(&asked));
    let second = line(&asked, &accounts(&asked));
    assert!(first.did_the_same(&second));
    let mut other = asked.clone();
    other.operations += 2;
    let other = line(&other, &accounts(&other));
    assert!(!first.did_the_same(&other));
}
