//! What is done with what came in: commands, requests of memory, orders.

use std::os::fd::OwnedFd;

use super::carvings::Carving;
use super::control::{self, Order, State, Told};
use super::names::Door;
use super::pace::Mode;
use super::server::Server;
use super::session::Stage;
use super::stream::Over;
use super::wire::{CARVED_MAX, Carved, MemoryAnswer, MemoryRequest, Outcome, Verb};
use crate::cci::{List, Opcode};
use crate::fabric::{Cci, Effect, Event};
use crate::id::HostId;
use crate::span::Span;
use crate::timing::Picos;

/// Where in a message its opcode is.
const OPCODE: core::ops::Range<usize> = 3..5;

/// The answer to a request of memory.
#[derive(Debug)]
enum Answer {
    Now(MemoryAnswer, Option<OwnedFd>),
    /// When the file of this carving is filled, and whether the carving was made for it.
    Later(u64, bool),
}

impl From<Outcome> for Answer {
    fn from(outcome: Outcome) -> Self {
        Self::Now(MemoryAnswer::bare(outcome), None)
    }
}

impl Server {
    /// Has something happen to the fabric, for a connection.
    fn step(&mut self, now: Picos, event: &Event, by: u64) -> Vec<Effect> {
        let mut effects = self.fabric.step(now, event);
        // It looks who reaches what.
        effects.extend(self.fabric.advance(now));
        self.follow();
        self.deliver(&effects, Some(by));
        effects
    }

    /// Notes who waits for an answer that is deferred, and sends what comes late.
    fn deliver(&mut self, effects: &[Effect], by: Option<u64>) {
        for effect in effects {
            match (effect, by) {
                (&Effect::Deferred { due, number }, Some(by)) => {
                    // What never comes is waited for no longer.
                    let (fabric, streams) = (&self.fabric, &self.streams);
                    self.late.retain(|&number, (due, by)| {
                        fabric.is_to_come(*due, number) && streams.contains_key(by)
                    });
                    self.late.insert(number, (due, by));
                }
                (Effect::Late { number, answer, .. }, _) => {
                    let Some((_, to)) = self.late.remove(number) else {
                        continue;
                    };
                    // Whoever asked may have hung up.
                    let stream = self.streams.get_mut(&to);
                    if stream.is_some_and(|it| it.answer(answer).is_err()) {
                        self.streams.remove(&to);
                    }
                }
                _ => {}
            }
        }
    }

    /// Has time pass.
    pub(super) fn advance(&mut self, now: Picos) -> Vec<Effect> {
        if now <= self.fabric.now() && self.fabric.next_due().is_none_or(|due| due > now) {
            return Vec::new();
        }
        let effects = self.fabric.advance(now);
        self.follow();
        self.deliver(&effects, None);
        effects
    }

    fn follow(&mut self) {
        self.carvings.follow(&self.fabric);
        self.files.keep_only(&self.carvings.backings());
    }

    /// Does the next message of a stream, if it is there.
    pub(super) fn do_message(&mut self, id: u64) -> Result<(), Over> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        let door = stream.door;
        let Some(message) = stream.next()? else {
            return Ok(());
        };
        let answer = match door {
            Door::Cci(cci) => self.command(id, cci, message),
            Door::Control => Some(self.order(id, &message)),
            Door::Memory(_) => None,
        };
        // What has no answer ends the connection: there is no other way for a stream to tell.
        let answer = answer.ok_or(Over)?;
        let stream = self.streams.get_mut(&id).ok_or(Over)?;
        stream.answer(&answer)
    }

    /// The answer to a command, also where it comes twice, if somebody is there to answer; nothing
    /// yet where it comes later.
    fn command(&mut self, id: u64, cci: Cci, message: Vec<u8>) -> Option<Vec<u8>> {
        let progress = Opcode::BackgroundOperationStatus.number().to_le_bytes();
        let now = match message.get(OPCODE) {
            Some(opcode) if opcode == progress => self.pace.next(&self.fabric),
            _ => self.pace.now(&self.fabric),
        };
        let effects = self.step(now, &Event::Command { cci, message }, id);
        let answers = effects.into_iter().filter_map(|effect| match effect {
            Effect::Answer(bytes) => Some(bytes),
            Effect::Deferred { .. } => Some(Vec::new()),
            _ => None,
        });
        answers.reduce(|first, second| [first, second].concat())
    }

    /// The answer to a line of an operator, a line as well.
    fn order(&mut self, id: u64, line: &[u8]) -> Vec<u8> {
        let told = match serde_json::from_slice(line) {
            Ok(Order::State) => Told::State(self.state()),
            Ok(Order::Fault(fault)) => {
                let now = self.pace.now(&self.fabric);
                // What was planned until now is no part of what comes of this.
                let _planned = self.advance(now);
                control::told(&self.step(now, &Event::Fault(fault), id))
            }
            Ok(Order::Advance(_)) if self.pace.mode() == Mode::Paced => {
                Told::Refused("time passes by itself in the mode paced".to_owned())
            }
            Ok(Order::Advance(by)) => {
                control::gone_by(&self.advance(self.fabric.now().saturating_add(by)))
            }
            Err(error) => Told::Refused(format!("it means nothing: {error}")),
        };
        // It has no keys that are no text, which is all that could fail.
        let mut answer = serde_json::to_vec(&told).unwrap_or_default();
        answer.push(b'\n');
        answer
    }

    fn state(&self) -> State {
        State {
            topology: self.topology.clone(),
            emulated: true,
            mode: self.pace.mode(),
            seed: self.config.seed,
            now_picos: self.fabric.now().get(),
            hosts: control::hosts(&self.fabric, &self.carvings),
            memdevs: control::memdevs(&self.fabric),
        }
    }

    /// Does the next request of a host's memory, if it is there.
    pub(super) fn ask_of_session(&mut self, id: u64) -> Result<(), Over> {
        let session = self.sessions.get_mut(&id).ok_or(Over)?;
        let host = session.host;
        let Some(request) = session.next()? else {
            return Ok(());
        };
        let answer = self.memory(host, &request).unwrap_or_else(Answer::from);
        let session = self.sessions.get_mut(&id).ok_or(Over)?;
        match answer {
            Answer::Now(answer, file) => session.answer(&answer, file),
            Answer::Later(carving, is_new) => {
                session.stage = Stage::Waits { carving, is_new };
                Ok(())
            }
        }
    }

    fn memory(&mut self, host: HostId, request: &MemoryRequest) -> Result<Answer, Outcome> {
        match request.verb {
            Verb::Carve => self.carve(host, request),
            Verb::GiveBack => {
                self.carvings.give_back(host, request.carving)?;
                self.follow();
                let answer = MemoryAnswer {
                    carving: request.carving,
                    ..MemoryAnswer::bare(Outcome::Done)
                };
                Ok(Answer::Now(answer, None))
            }
            Verb::Open => {
                let carving = self.carvings.of(host, request.carving);
                let backing = carving.ok_or(Outcome::NoCarving)?.backing;
                Ok(if self.files.is_ready(backing) {
                    self.hand_out(host, request.carving)
                } else {
                    Answer::Later(request.carving, false)
                })
            }
            Verb::List => Ok(self.list(host, request.carving)),
        }
    }

    fn carve(&mut self, host: HostId, request: &MemoryRequest) -> Result<Answer, Outcome> {
        let spans = request.spans.iter().map(|it| Span::new(it.start, it.bytes));
        let spans: Option<Vec<Span>> = spans.collect();
        let place = (host, request.memdev, request.ld);
        let spans = spans.ok_or(Outcome::BadSpans)?;
        let number = self.carvings.carve(&self.fabric, place, spans)?;
        let carving = self.carvings.of(host, number).ok_or(Outcome::Failed)?;
        let (backing, bytes) = (carving.backing, carving.bytes());
        if let Err(error) = self.files.begin(backing, bytes) {
            // There is no such file, so that nobody else has it.
            self.carvings.give_up(backing);
            return Ok(Answer::Now(error.answer(), None));
        }
        if !self.files.is_ready(backing) {
            return Ok(Answer::Later(number, true));
        }
        Ok(self.hand_out_new(host, number))
    }

    /// As [`Server::hand_out`], for a carving that is new: it ends where nobody is given its file.
    fn hand_out_new(&mut self, host: HostId, number: u64) -> Answer {
        let answer = self.hand_out(host, number);
        if let Answer::Now(_, None) = answer {
            // It may have ended by itself.
            let _ended = self.carvings.give_back(host, number);
            self.follow();
        }
        answer
    }

    /// The answer that has the file of a carving, which is filled.
    fn hand_out(&self, host: HostId, number: u64) -> Answer {
        let Some(carving) = self.carvings.of(host, number) else {
            return Outcome::Left.into();
        };
        match self.files.open(carving.backing, carving.is_read_only) {
            Ok(file) => {
                let answer = MemoryAnswer {
                    carving: number,
                    bytes: carving.bytes(),
                    ..MemoryAnswer::bare(Outcome::Done)
                };
                Answer::Now(answer, Some(file))
            }
            Err(error) => Answer::Now(error.answer(), None),
        }
    }

    fn list(&self, host: HostId, after: u64) -> Answer {
        let carved = |(carving, it): (u64, &Carving)| Carved {
            carving,
            bytes: it.bytes(),
            memdev: it.memdev,
            ld: it.ld,
        };
        let all = self.carvings.of_host(host).filter(|&(it, _)| it > after);
        let some: Vec<Carved> = all.take(CARVED_MAX).map(carved).collect();
        match List::try_from(some) {
            Ok(carvings) => {
                let answer = MemoryAnswer {
                    carvings,
                    ..MemoryAnswer::bare(Outcome::Done)
                };
                Answer::Now(answer, None)
            }
            Err(_) => Outcome::Failed.into(),
        }
    }

    /// Fills a part of a file, and answers who waits for one that is filled, or that will not be.
    pub(super) fn fill_files(&mut self) {
        let failed = match self.files.fill() {
            Some((backing, Err(error))) => Some((backing, error)),
            Some((_, Ok(()))) | None => None,
        };
        let waiting = self.sessions.iter().filter_map(|(&id, it)| match it.stage {
            Stage::Waits { carving, is_new } => Some((id, it.host, carving, is_new)),
            _ => None,
        });
        let waiting: Vec<_> = waiting.collect();
        for (id, host, number, is_new) in waiting {
            let backing = self.carvings.of(host, number).map(|it| it.backing);
            let answer = match (backing, failed) {
                (Some(backing), Some((lost, error))) if backing == lost => {
                    Answer::Now(error.answer(), None)
                }
                (Some(backing), _) if !self.files.is_ready(backing) => continue,
                _ if is_new => self.hand_out_new(host, number),
                _ => self.hand_out(host, number),
            };
            let session = self.sessions.get_mut(&id);
            if let (Answer::Now(answer, file), Some(session)) = (answer, session)
                && session.answer(&answer, file) == Err(Over)
            {
                self.sessions.remove(&id);
            }
        }
        if let Some((backing, _)) = failed {
            self.carvings.give_up(backing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::server::Config;
    use super::*;
    use crate::fabric::Fault;
    use crate::schedule::Schedule;
    use crate::topology::Topology;

    #[test]
    fn an_operator_is_told_what_came_of_the_fault_and_not_of_what_was_planned_before() {
        let folder = tempfile::tempdir().unwrap();
        let topology = Topology::named("expander").unwrap();
        let config = Config::new(Mode::Virtual, 1);
        let mut server = Server::open(&topology, &folder.path().join("f"), config).unwrap();
        // It fails: the host is alive.
        let mut schedule = Schedule::new();
        let planned = Fault::HostStarts(HostId(0));
        schedule.add(Picos::ZERO, planned).unwrap();
        server.plan(&schedule);
        let order = serde_json::to_vec(&Order::Fault(Fault::HostDies(HostId(0)))).unwrap();
        let done = "{\"done\":{\"lost_lines\":0}}\n";
        assert_eq!(String::from_utf8(server.order(0, &order)).unwrap(), done);
        assert_eq!(server.fabric.next_due(), None);
    }
}
