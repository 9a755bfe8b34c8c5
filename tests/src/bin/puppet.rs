//! A process that does what a test tells it: see `tierpool_tests::puppet`.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a puppet that fails fails its test")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, Write as _};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use coherence::Grant;
use nix::errno::Errno;
use pool_core::futex::RobustWord;
use pool_core::limits::LIVENESS_PAGE_BYTES;
use pool_core::mem::{Access as MapAccess, FileMap};
use pool_core::{Bytes, EXTENT_BYTES};
use pool_proto::admin::v1 as admin;
use pool_proto::common::v1::Access;
use pool_proto::session::v1::{self as session, reply};
use prost::Message as _;
use tierpool_tests::admin::{Admin, EventStream};
use tierpool_tests::attempt::{own_file, scribble};
use tierpool_tests::client::{Answer, Held, Session, Unanswered};
use tierpool_tests::domain;
use tierpool_tests::puppet::{Call, Order, Outcome};
use tierpool_tests::users::become_user;
use tonic::Status;

fn main() {
    let mut puppet = Puppet::default();
    for line in std::io::stdin().lock().lines() {
        let order: Order = serde_json::from_str(&line.unwrap()).unwrap();
        let mut outcome = serde_json::to_vec(&puppet.obey(order)).unwrap();
        outcome.push(b'\n');
        let mut out = std::io::stdout().lock();
        out.write_all(&outcome).unwrap();
        out.flush().unwrap();
    }
}

#[derive(Default)]
struct Puppet {
    session: Option<Session>,
    held: BTreeMap<u64, Held>,
    leased: BTreeMap<(u64, u32), (Grant, bool)>,
    /// Registered for the rest of the process's life.
    life: Option<RobustWord>,
    followed: Option<EventStream>,
}

impl Puppet {
    fn obey(&mut self, order: Order) -> Outcome {
        match order {
            Order::Become(uid) => become_user(uid),
            Order::Attach { socket, tenant } => return self.attach(&socket, &tenant),
            Order::Reattach => return self.reattach(None),
            Order::ReattachAs(id, token) => return self.reattach(Some((id, token))),
            Order::ShowLife => self.life = Some(self.register()),
            Order::ShowDeath => self.show_death(),
            Order::HangUp => self.session = None,
            Order::Ask { request, files } => return self.ask(&request, files),
            Order::Write(id, seed) => self.held[&id].write(seed),
            Order::Holds(id, seed) => return Outcome::Truth(self.held[&id].holds(seed)),
            Order::IsZero(id) => return Outcome::Truth(self.held[&id].is_zero()),
            Order::Drop(id) => drop(self.held.remove(&id).unwrap()),
            Order::Try(id, attempt) => {
                let held = &self.held[&id];
                let (file, bytes) = (held.files[0].as_fd(), held.segment.pieces[0].bytes);
                return kernel(attempt.on(file, bytes));
            }
            Order::Lease(id, unit, exclusive) => {
                let granted = domain::lease(&self.held[&id], unit, exclusive);
                let leased =
                    granted.map(|grant| self.leased.insert((id, unit), (grant, exclusive)));
                return Outcome::Truth(leased.is_ok());
            }
            Order::LetGo(id, unit) => {
                let (grant, exclusive) = self.leased.remove(&(id, unit)).unwrap();
                let given = domain::let_go(&self.held[&id], unit, &grant, exclusive);
                return Outcome::Truth(given.is_ok());
            }
            Order::Poke(id, unit, value) => domain::poke(&self.held[&id], unit, value),
            Order::Peeks(id, unit, value) => {
                return Outcome::Truth(domain::peek(&self.held[&id], unit) == value);
            }
            Order::Scribble(seed) => return kernel(self.scribble(seed)),
            Order::Spy(pid, spying) => return kernel(spying.on(pid)),
            Order::Call(socket, call) => return make_call(&socket, call),
            Order::Follow(socket) => {
                self.followed = Some(Admin::connect(&socket).unwrap().events().unwrap());
            }
            Order::NextEvent => {
                let event = self.followed.as_mut().unwrap().next_event();
                return Outcome::Names(vec![event.kind, event.tenant]);
            }
        }
        Outcome::Done
    }

    fn attach(&mut self, socket: &Path, tenant: &str) -> Outcome {
        match Session::attach(socket, tenant, "puppet") {
            Ok(session) => {
                let attached = reply::Body::Attached(session.attached().clone());
                self.session = Some(session);
                encoded(attached)
            }
            Err(unanswered) => without_answer(unanswered),
        }
    }

    fn reattach(&mut self, stolen: Option<(u64, Vec<u8>)>) -> Outcome {
        let session = self.session.as_mut().unwrap();
        let outcome = match stolen {
            Some((id, token)) => session.reattach_as(id, token),
            None => session.reattach(),
        };
        match outcome {
            Ok(reattached) => encoded(reply::Body::Reattached(reattached)),
            Err(unanswered) => without_answer(unanswered),
        }
    }

    fn ask(&mut self, request: &[u8], files: usize) -> Outcome {
        let session = self.session.as_mut().unwrap();
        let body = session::Request::decode(request).unwrap().body;
        let request_id = session.next_id();
        let mine: Vec<OwnedFd> = (0..files).map(|_| own_file(EXTENT_BYTES)).collect();
        let mine: Vec<BorrowedFd<'_>> = mine.iter().map(OwnedFd::as_fd).collect();
        let bytes = session::Request { request_id, body }.encode_to_vec();
        let connection = session.connection();
        let answer = connection
            .send(&bytes, &mine)
            .and_then(|()| connection.receive());
        match answer {
            Ok(Answer {
                body: reply::Body::Granted(granted),
                files,
                ..
            }) => {
                let held = Held::new(granted.clone(), files);
                self.held.insert(held.id(), held);
                encoded(reply::Body::Granted(granted))
            }
            Ok(answer) => encoded(answer.body),
            Err(error) => Outcome::Gone(error.to_string()),
        }
    }

    /// Everything that this process may write: what it holds read-write, and its page.
    fn scribble(&self, seed: u64) -> Result<(), Errno> {
        for held in self
            .held
            .values()
            .filter(|held| held.access == Access::ReadWrite)
        {
            for (piece, file) in held.segment.pieces.iter().zip(&held.files) {
                scribble(file.as_fd(), piece.bytes, seed)?;
            }
        }
        scribble(
            self.session.as_ref().unwrap().page(),
            LIVENESS_PAGE_BYTES,
            seed,
        )
    }

    fn page(&self) -> FileMap {
        let page = self.session.as_ref().unwrap().page();
        let bytes = Bytes::new(LIVENESS_PAGE_BYTES);
        FileMap::new(page, Bytes::ZERO, bytes, MapAccess::ReadWrite).unwrap()
    }

    fn register(&self) -> RobustWord {
        RobustWord::register(self.page(), Bytes::ZERO).unwrap()
    }

    /// A thread that ends while it is registered, as if it had been killed.
    fn show_death(&self) {
        let page = self.page();
        let thread = std::thread::spawn(move || {
            let word = RobustWord::register(page, Bytes::ZERO).unwrap();
            // The kernel goes through the list when the thread ends, and must find it.
            let _registered = ManuallyDrop::new(word);
        });
        thread.join().unwrap();
    }
}

fn make_call(socket: &Path, call: Call) -> Outcome {
    let mut pool = Admin::connect(socket).unwrap();
    let called = match call {
        Call::Segments => pool.segments().map(|found| {
            let segments = found.into_iter().filter_map(|detail| detail.segment);
            segments.map(|segment| segment.name).collect()
        }),
        Call::Tenants => pool
            .tenants()
            .map(|found| found.into_iter().map(|tenant| tenant.name).collect()),
        Call::Clients => pool.clients().map(|found| {
            found
                .iter()
                .map(|client| client.client_id.to_string())
                .collect()
        }),
        Call::Check => nothing(pool.check()),
        Call::Drain(device) => nothing(pool.drain_device(admin::DrainDeviceRequest { device })),
        Call::Activate(device) => {
            nothing(pool.activate_device(admin::ActivateDeviceRequest { device }))
        }
        Call::Remove(device) => nothing(pool.remove_device(admin::RemoveDeviceRequest { device })),
        Call::Resize(device, bytes) => {
            nothing(pool.resize_device(admin::ResizeDeviceRequest { device, bytes }))
        }
        Call::Free(segment_id) => nothing(pool.free_segment(admin::FreeSegmentRequest {
            segment_id,
            force: true,
        })),
    };
    match called {
        Ok(names) => Outcome::Names(names),
        Err(status) => Outcome::Code(status.code().into()),
    }
}

fn nothing<T>(called: Result<T, Status>) -> Result<Vec<String>, Status> {
    called.map(|_| Vec::new())
}

fn kernel(outcome: Result<(), Errno>) -> Outcome {
    match outcome {
        Ok(()) => Outcome::Done,
        Err(errno) => Outcome::Kernel(errno as i32),
    }
}

fn encoded(body: reply::Body) -> Outcome {
    Outcome::Reply(
        session::Reply {
            request_id: 0,
            body: Some(body),
        }
        .encode_to_vec(),
    )
}

fn without_answer(unanswered: Unanswered) -> Outcome {
    match unanswered {
        Unanswered::Refused(error) => encoded(reply::Body::Error(error)),
        Unanswered::Gone(error) => Outcome::Gone(error.to_string()),
    }
}
