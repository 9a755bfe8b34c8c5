//! Everything that clients ask of a daemon, once each.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use pool_core::Nanos;
use pool_proto::common::v1::{Access, ErrorClass, ErrorReason, Lifetime, OnDeath, Segment};
use pool_proto::session::v1::{reply, request};
use tierpool_tests::asker::Tally;
use tierpool_tests::client::{Answer, Session, Unanswered, ask, granted};
use tierpool_tests::{EXTENT, domain};

use super::known::{Contents, Known, Mine};
use pool_core::packet::PacketError;

/// How long somebody waits who takes no answer for one.
const BRIEFLY: Nanos = Nanos::from_millis(250);
/// How long somebody waits who must be answered.
const LONG: Nanos = Nanos::from_millis(120_000);
/// Who was left without an answer so often asks no more.
const LATE_MAX: u64 = 2;

/// How it went.
enum Asked {
    Done(Box<Answer>),
    /// Nothing was changed.
    Refused,
    /// Nobody knows whether it was done.
    InDoubt,
    /// Nobody was asked.
    LeftOut,
}

/// How everybody asks at the moment, and how it went so far.
#[derive(Debug, Default)]
struct Manner {
    /// Everything must be done.
    insists: bool,
    /// Something is in doubt: who asks for it may be told that it is not there, or there already.
    doubts: bool,
    /// It may have got files that nobody but the daemon has, where the store failed as well: then
    /// they are waited for in vain. Who gave the order decides whether that may be.
    awaits: bool,
    /// How often this daemon has not answered.
    late: u64,
    tally: Tally,
}

impl Manner {
    fn patience(&self) -> Nanos {
        if self.insists { LONG } else { BRIEFLY }
    }

    fn is_tired(&self) -> bool {
        self.late >= LATE_MAX
    }

    fn take<T>(&mut self, what: &str, outcome: Result<T, Unanswered>) -> Option<Result<T, ()>> {
        if let (true, Err(error)) = (self.insists, &outcome) {
            let is_awaited = matches!(error, Unanswered::Refused(error)
                if error.reason() == ErrorReason::Busy);
            assert!(is_awaited && self.awaits, "{what}: {error}");
        }
        match outcome {
            Ok(answer) => {
                self.tally.done += 1;
                Some(Ok(answer))
            }
            Err(Unanswered::Refused(error)) => {
                use ErrorReason::{Busy, InUse, NameTaken, NotFound};
                let blames = [ErrorClass::Exhausted, ErrorClass::Unreachable];
                let follows = [NameTaken, NotFound, InUse].contains(&error.reason());
                assert!(
                    blames.contains(&error.class())
                        || error.reason() == Busy
                        || (self.doubts && follows),
                    "{what}: {error:?}"
                );
                let reason = error.reason().as_str_name().to_owned();
                *self.tally.refused.entry(reason).or_default() += 1;
                Some(Err(()))
            }
            Err(Unanswered::Gone(PacketError::TimedOut)) => {
                self.late += 1;
                self.tally.late += 1;
                None
            }
            Err(Unanswered::Gone(_)) => {
                self.tally.ended += 1;
                None
            }
        }
    }
}

/// A client, with a connection or without.
#[derive(Debug)]
struct Client {
    session: Session,
    is_connected: bool,
}

impl Client {
    fn attach(socket: &Path, label: &str, manner: &mut Manner) -> Option<Self> {
        if manner.is_tired() {
            manner.tally.left_out += 1;
            return None;
        }
        let attached = Session::attach_within(socket, label, "asker", manner.patience());
        let session = manner.take("attach", attached)?.ok()?;
        let is_connected = true;
        Some(Self {
            session,
            is_connected,
        })
    }

    /// Comes back, where it has lost its connection, with what it holds of what the daemon misses.
    fn is_back(&mut self, known: Option<&Known>, manner: &mut Manner) -> bool {
        if self.is_connected {
            return true;
        }
        if manner.is_tired() {
            return false;
        }
        self.session.set_patience(manner.patience());
        let back = self.session.reattach();
        let Some(Ok(back)) = manner.take("reattach", back) else {
            return false;
        };
        self.is_connected = true;
        let Some(known) = known else {
            return true;
        };
        known.are_held(&back.held.iter().map(|held| held.segment_id).collect());
        for backing in back.missing_backings {
            if let Some(file) = known.file(backing) {
                let supplied = self.session.supply(backing, file);
                if manner.take("supply", supplied).is_none() {
                    self.is_connected = false;
                    return false;
                }
            }
        }
        true
    }

    fn ask(&mut self, body: request::Body, known: Option<&Known>, manner: &mut Manner) -> Asked {
        if !self.is_back(known, manner) {
            manner.tally.left_out += 1;
            return Asked::LeftOut;
        }
        let what = format!("{body:?}");
        match manner.take(&what, self.session.try_ask(body)) {
            Some(Ok(answer)) => Asked::Done(Box::new(answer)),
            Some(Err(())) => Asked::Refused,
            None => {
                self.is_connected = false;
                Asked::InDoubt
            }
        }
    }
}

/// Everybody, and what they know.
#[derive(Debug)]
pub(crate) struct Script {
    socket: PathBuf,
    /// The owner holds what outlives its holders too.
    keeps: bool,
    owner: Option<Client>,
    /// Of another tenant.
    guest: Option<Client>,
    /// Of the owner's.
    mate: Option<Client>,
    known: Known,
    manner: Manner,
    /// What is there before anybody asks: contents that outlive their holders, and that do not.
    base: u64,
    spare: u64,
}

impl Script {
    pub(crate) fn new(socket: PathBuf, keeps: bool) -> Self {
        Self {
            socket,
            keeps,
            owner: None,
            guest: None,
            mate: None,
            known: Known::default(),
            manner: Manner::default(),
            base: 0,
            spare: 0,
        }
    }

    pub(crate) fn prepare(&mut self) -> Tally {
        self.begin(true);
        self.owner = Client::attach(&self.socket, "owner", &mut self.manner);
        self.lay_down();
        std::mem::take(&mut self.manner.tally)
    }

    pub(crate) fn ask(&mut self) -> Tally {
        self.begin(false);
        self.go_through();
        std::mem::take(&mut self.manner.tally)
    }

    pub(crate) fn press(&mut self, times: u64) -> Tally {
        for _ in 0..times {
            self.pass_by();
            if let Some(id) = self.create("press", ask::create("ddr", EXTENT)) {
                self.close(id);
            }
            self.refresh(self.spare);
        }
        std::mem::take(&mut self.manner.tally)
    }

    pub(crate) fn settle(&mut self) -> Tally {
        self.begin(true);
        // Whoever was refused before comes now.
        let (known, manner) = (&self.known, &mut self.manner);
        assert!(
            self.owner
                .as_mut()
                .expect("prepared")
                .is_back(Some(known), manner)
        );
        self.look_at_all();
        self.give_all_back();
        self.known = Known {
            gone: std::mem::take(&mut self.known.gone),
            ..Known::default()
        };
        std::mem::take(&mut self.manner.tally)
    }

    pub(crate) fn leave(&mut self) -> Tally {
        self.begin(true);
        self.lay_down();
        self.go_through();
        self.look_at_all();
        self.give_all_back();
        for client in [self.mate.take(), self.guest.take(), self.owner.take()] {
            let mut client = client.expect("everybody is let in");
            client.ask(ask::detach(), None, &mut self.manner);
        }
        std::mem::take(&mut self.manner.tally)
    }

    /// The daemon is another one than before.
    fn begin(&mut self, insists: bool) {
        let clients = [&mut self.owner, &mut self.guest, &mut self.mate];
        for client in clients.into_iter().flatten() {
            client.is_connected = false;
        }
        self.manner.insists = insists;
        self.manner.late = 0;
    }

    fn asks(&mut self, body: request::Body) -> Asked {
        self.manner.doubts = self.known.is_in_doubt();
        let owner = self.owner.as_mut().expect("prepared");
        owner.ask(body, Some(&self.known), &mut self.manner)
    }

    /// What is there before anybody asks.
    fn lay_down(&mut self) {
        let base = ask::create_persistent("ddr", EXTENT, "base");
        self.base = self.create("base", base).expect("it is granted");
        self.wrote(self.base, 7);
        if !self.keeps {
            self.close(self.base);
        }
        let spare = ask::create("pooled", EXTENT);
        self.spare = self.create("spare", spare).expect("it is granted");
        self.wrote(self.spare, 8);
    }

    fn go_through(&mut self) {
        self.pass_by();
        let (socket, manner) = (&self.socket, &mut self.manner);
        if self.guest.is_none() {
            self.guest = Client::attach(socket, "guest", manner);
        }
        if self.mate.is_none() {
            self.mate = Client::attach(socket, "owner", manner);
        }
        self.sizes_and_shares();
        self.leases();
        self.lifetimes();
        self.is_kept();
        self.refresh(self.spare);
        self.free(self.spare);
        let listed = self.listed();
        if let Some(listed) = listed {
            self.known.are_listed(&listed);
        }
    }

    /// Comes, and goes.
    fn pass_by(&mut self) {
        let passer = Client::attach(&self.socket, "passer", &mut self.manner);
        if let Some(mut passer) = passer {
            passer.ask(ask::detach(), None, &mut self.manner);
        }
    }

    /// A segment of three sizes, which another tenant sees for a while, and which moves.
    fn sizes_and_shares(&mut self) {
        let create = ask::create_in_pieces("ddr", "common");
        let Some(id) = self.create("common", create) else {
            return;
        };
        self.wrote(id, 1);
        self.resize(id, 3 * EXTENT);
        self.resize(id, EXTENT);
        self.share(id);
        self.relocate(id);
        self.refresh(id);
    }

    fn share(&mut self, id: u64) {
        let Some(guest) = &mut self.guest else {
            return;
        };
        let tenant = guest.session.tenant().to_owned();
        let shared = self.asks(ask::share(id, &tenant, Access::ReadOnly));
        let name = self
            .owner
            .as_ref()
            .expect("prepared")
            .session
            .tenant()
            .to_owned();
        let open = ask::open(&format!("{name}:common"), Access::ReadOnly);
        self.manner.doubts = self.known.is_in_doubt() || !matches!(shared, Asked::Done(_));
        let (guest, manner) = (self.guest.as_mut().expect("seen"), &mut self.manner);
        let theirs = guest.ask(open, None, manner);
        if let Asked::Done(answer) = theirs {
            self.known.mine[&id].is_right(&granted(*answer));
        }
        // What is taken back moves away from those who had it.
        let revoked = self.asks(ask::revoke(id, &tenant));
        let mine = self.known.mine.get_mut(&id).expect("granted");
        match revoked {
            Asked::Done(answer) => {
                mine.replace(granted(*answer));
                mine.write(2);
            }
            Asked::InDoubt => mine.may_have_moved = true,
            Asked::Refused | Asked::LeftOut => {}
        }
    }

    /// A domain, of which a member holds a unit and another one reads it.
    fn leases(&mut self) {
        let body = domain::create(EXTENT, "leased", OnDeath::Keep);
        let Some(id) = self.create("leased", body) else {
            return;
        };
        let mine = self.known.mine.get_mut(&id).expect("granted");
        domain::publish(&mine.held, 0, 77);
        mine.contents = Contents::Unit(77);
        let (known, manner) = (&self.known, &mut self.manner);
        manner.doubts = known.is_in_doubt();
        if let Some(mate) = &mut self.mate {
            let opened = mate.ask(ask::open("leased", Access::ReadOnly), None, manner);
            if let Asked::Done(answer) = opened {
                known.mine[&id].is_right(&granted(*answer));
                let acquired = mate.ask(domain::acquire(id, 0), None, manner);
                if matches!(acquired, Asked::Done(_)) {
                    mate.ask(domain::release(id, 0), None, manner);
                }
                mate.ask(ask::close(id), None, manner);
            }
        }
        self.free(id);
    }

    /// Segments end in each way that there is.
    fn lifetimes(&mut self) {
        if let Some(id) = self.create("alone", ask::create("ddr", EXTENT)) {
            self.close(id);
        }
        let Some(id) = self.create("kept", ask::create_persistent("ddr", EXTENT, "kept")) else {
            return;
        };
        self.wrote(id, 3);
        self.close(id);
        self.open(id, "kept");
        self.seal(id);
        self.free(id);
    }

    /// What was there before is there, and is what it was.
    fn is_kept(&mut self) {
        self.open(self.base, "base");
        if !self.keeps {
            self.close(self.base);
        }
    }

    fn create(&mut self, what: &str, body: request::Body) -> Option<u64> {
        match self.asks(body) {
            Asked::Done(answer) => {
                let held = granted(*answer);
                let (id, mine) = (held.id(), Mine::new(held));
                let is_new = !self.known.gone.contains(&id) && !self.known.mine.contains_key(&id);
                assert!(is_new, "{what}: {id} is granted twice");
                if mine.held.segment.coherence.is_none() {
                    mine.is_right(&mine.held);
                }
                self.known.mine.insert(id, mine);
                Some(id)
            }
            Asked::InDoubt => {
                self.known.doubtful += 1;
                None
            }
            Asked::Refused | Asked::LeftOut => None,
        }
    }

    fn wrote(&mut self, id: u64, seed: u64) {
        self.known.mine.get_mut(&id).expect("granted").write(seed);
    }

    fn resize(&mut self, id: u64, bytes: u64) {
        let asked = self.asks(ask::resize(id, bytes));
        let mine = self.known.mine.get_mut(&id).expect("granted");
        match asked {
            Asked::Done(answer) => {
                mine.sizes = BTreeSet::from([bytes]);
                mine.cut(bytes, true);
                mine.replace(granted(*answer));
            }
            Asked::InDoubt => {
                mine.may_have_moved = true;
                mine.sizes.insert(bytes);
                mine.cut(bytes, false);
            }
            Asked::Refused | Asked::LeftOut => {}
        }
    }

    fn relocate(&mut self, id: u64) {
        let asked = self.asks(ask::relocate(id, "pooled"));
        let mine = self.known.mine.get_mut(&id).expect("granted");
        match asked {
            Asked::Done(answer) => {
                mine.tiers = BTreeSet::from(["pooled".to_owned()]);
                mine.replace(granted(*answer));
            }
            Asked::InDoubt => {
                mine.may_have_moved = true;
                mine.tiers.insert("pooled".to_owned());
            }
            Asked::Refused | Asked::LeftOut => {}
        }
    }

    fn refresh(&mut self, id: u64) {
        if !self.known.mine.get(&id).is_some_and(|mine| mine.is_held) {
            return;
        }
        if let Asked::Done(answer) = self.asks(ask::refresh(id)) {
            let mine = self.known.mine.get_mut(&id).expect("granted");
            mine.replace(granted(*answer));
        }
    }

    fn open(&mut self, id: u64, name: &str) {
        let asked = self.asks(ask::open(name, Access::ReadWrite));
        let mine = self.known.mine.get_mut(&id).expect("granted");
        match asked {
            Asked::Done(answer) => {
                mine.replace(granted(*answer));
                mine.is_held = true;
            }
            // It outlives whoever holds it.
            Asked::InDoubt | Asked::Refused | Asked::LeftOut => {}
        }
    }

    fn seal(&mut self, id: u64) {
        let writers = match self.asks(ask::open("kept", Access::ReadWrite)) {
            Asked::Done(answer) => match answer.body {
                reply::Body::Granted(granted) => granted.writers,
                other => panic!("a grant was hoped for, and there came {other:?}"),
            },
            _ => return,
        };
        self.known.mine.get_mut(&id).expect("granted").is_held = true;
        if let Asked::Done(answer) = self.asks(ask::seal(id, writers)) {
            let held = granted(*answer);
            assert!(held.segment.sealed && held.access == Access::ReadOnly);
            self.known.mine[&id].is_right(&held);
        }
    }

    fn close(&mut self, id: u64) {
        let asked = self.asks(ask::close(id));
        let mine = self.known.mine.get_mut(&id).expect("granted");
        let is_kept = mine.held.segment.lifetime() == Lifetime::Persistent;
        match asked {
            Asked::Done(_) if is_kept => mine.is_held = false,
            Asked::Done(_) => self.known.is_gone(id),
            Asked::InDoubt if is_kept => mine.is_held = false,
            Asked::InDoubt => mine.may_be_gone = true,
            Asked::Refused | Asked::LeftOut => {}
        }
    }

    fn free(&mut self, id: u64) {
        match self.asks(ask::free(id, true)) {
            Asked::Done(_) => self.known.is_gone(id),
            Asked::InDoubt => {
                self.known.mine.get_mut(&id).expect("granted").may_be_gone = true;
            }
            Asked::Refused | Asked::LeftOut => {}
        }
    }

    fn listed(&mut self) -> Option<Vec<Segment>> {
        match self.asks(ask::list()) {
            Asked::Done(answer) => match answer.body {
                reply::Body::Listed(listed) => Some(listed.segments),
                other => panic!("a list was asked for, and there came {other:?}"),
            },
            _ => None,
        }
    }

    /// Everything acknowledged is there, as it was left.
    fn look_at_all(&mut self) {
        let listed = self.listed().expect("a list");
        self.known.are_listed(&listed);
        let there: BTreeSet<u64> = listed.iter().map(|segment| segment.segment_id).collect();
        for (id, mine) in &mut self.known.mine {
            if !there.contains(id) {
                continue;
            }
            let owner = self.owner.as_mut().expect("prepared");
            let name = mine.held.segment.name.clone();
            let body = match mine.is_held {
                true => ask::refresh(*id),
                false => ask::open(&name, Access::ReadOnly),
            };
            self.manner.awaits = mine.may_have_moved;
            if let Asked::Done(answer) = owner.ask(body, None, &mut self.manner) {
                mine.replace(granted(*answer));
            }
        }
        self.manner.awaits = false;
    }

    fn give_all_back(&mut self) {
        for segment in self.listed().expect("a list") {
            let Asked::Done(_) = self.asks(ask::free(segment.segment_id, true)) else {
                continue;
            };
            self.known.is_gone(segment.segment_id);
        }
        assert!(self.listed().expect("a list").is_empty());
    }
}
