//! A daemon of a few hundred lines that speaks the session protocol, and misbehaves as told.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::thread::JoinHandle;

use nix::sys::socket::{
    AddressFamily, Backlog, Shutdown, SockFlag, SockType, UnixAddr, accept4, bind, listen,
    shutdown, socket,
};
use pool_core::clock::Deadline;
use pool_core::limits::MESSAGE_BYTES_MAX;
use pool_core::packet;
use pool_core::sync::{Arc, Mutex, MutexGuard, lock};
use pool_proto::session::v1::{Event, Request, event, reply, request};
use prost::Message as _;

mod domain;
mod model;
pub(crate) use domain::{Peer, SLOT};
pub(crate) use model::{Model, in_use, refused};

/// What the fake does with a request, in place of answering it.
pub(crate) enum Script {
    /// Does it, and hangs up without an answer.
    DoAndHangUp,
    /// Hangs up at once.
    HangUp,
    /// Does it, and answers when [`Fake::answer_late`] is called.
    DoAndAnswerLate,
    /// Does not do it, and says this when [`Fake::answer_late`] is called.
    SayLate(reply::Body, Vec<OwnedFd>),
    /// Does not do it, and says this.
    Say(reply::Body, Vec<OwnedFd>),
    /// Does not do it, and sends these bytes.
    Send(Vec<u8>),
    /// Does it, and answers the request with another id before it answers this one.
    DoAndAnswerFirst(u64),
    /// Does not do it, and answers another request only.
    AnswerOnly(u64),
}

pub(crate) type Matcher = fn(&request::Body) -> bool;

pub(crate) struct Fake {
    directory: tempfile::TempDir,
    model: Arc<Mutex<Model>>,
    listener: Option<(OwnedFd, JoinHandle<()>)>,
}

impl Fake {
    pub(crate) fn start() -> Self {
        let model = Model::new();
        let directory = tempfile::tempdir().unwrap();
        let mut fake = Self {
            directory,
            model: Arc::new(Mutex::new(model)),
            listener: None,
        };
        fake.listen();
        fake
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("session.sock")
    }

    pub(crate) fn model(&self) -> MutexGuard<'_, Model> {
        lock(&self.model)
    }

    /// Does `script` with the next request that `matches`.
    pub(crate) fn once(&self, matches: Matcher, script: Script) {
        self.model().scripts.push_back((matches, script));
    }

    /// Gives the answers that were held back, on the connections on which they were asked for.
    pub(crate) fn answer_late(&self) {
        let late = std::mem::take(&mut self.model().late);
        assert!(!late.is_empty(), "an answer is held back");
        for (connection, bytes, files) in late {
            let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
            packet::send(connection.as_fd(), &bytes, &files).unwrap();
        }
    }

    pub(crate) fn tell(&self, body: event::Body) {
        let bytes = Event { body: Some(body) }.encode_to_vec();
        let model = self.model();
        packet::send(model.events.as_ref().unwrap().as_fd(), &bytes, &[]).unwrap();
    }

    /// Dies: every connection breaks, and nothing listens.
    pub(crate) fn kill(&mut self) {
        if let Some((socket, thread)) = self.listener.take() {
            shutdown(socket.as_raw_fd(), Shutdown::Both).unwrap();
            thread.join().unwrap();
            std::fs::remove_file(self.socket()).unwrap();
        }
        let mut model = self.model();
        for connection in std::mem::take(&mut model.connections).into_values() {
            // It fails where the client was faster.
            let _ = shutdown(connection.as_raw_fd(), Shutdown::Both);
        }
        model.events = None;
    }

    /// Starts again with what the journal would have.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.model().epoch += 1;
        self.listen();
    }

    pub(crate) fn listen(&mut self) {
        let flags = SockFlag::SOCK_CLOEXEC;
        let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
        bind(
            listener.as_raw_fd(),
            &UnixAddr::new(&self.socket()).unwrap(),
        )
        .unwrap();
        listen(&listener, Backlog::new(16).unwrap()).unwrap();
        let (accepting, model) = (listener.try_clone().unwrap(), Arc::clone(&self.model));
        let thread = std::thread::spawn(move || {
            while let Ok(raw) = accept4(accepting.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
                // SAFETY: just accepted, and nobody else knows of it.
                let connection = unsafe { std::os::fd::FromRawFd::from_raw_fd(raw) };
                let model = Arc::clone(&model);
                std::thread::spawn(move || serve(&model, connection));
            }
        });
        self.listener = Some((listener, thread));
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.kill();
    }
}

fn serve(model: &Mutex<Model>, connection: OwnedFd) {
    let number = lock(model).add_connection(connection.try_clone().unwrap());
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    let mut client = 0;
    while let Ok(packet) = packet::receive_by(connection.as_fd(), &mut buffer, Deadline::NEVER) {
        let request = Request::decode(&buffer[..packet.len]).unwrap();
        let mut model = lock(model);
        if !model.answer(connection.as_fd(), &mut client, request, packet.descriptors) {
            break;
        }
    }
    let _ = shutdown(connection.as_raw_fd(), Shutdown::Both);
    lock(model).connections.remove(&number);
}
