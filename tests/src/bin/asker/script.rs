//! Everything that clients ask of a daemon, once each.

use std::collections::BTreeSet;
use std::path::PathBuf;

use pool_proto::common::v1::{Access, ErrorReason, Lifetime, OnDeath, Segment};
use pool_proto::session::v1::{reply, request};
use tierpool_tests::asker::Tally;
use tierpool_tests::client::{Unanswered, ask, granted};
use tierpool_tests::{EXTENT, domain};

use super::client::{Asked, Client, Manner};
use super::known::{Contents, Known, Mine};

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
    /// Of the owner's as well, who comes when everything is asked for.
    comer: Option<Client>,
    known: Known,
    manner: Manner,
    /// What is there before anybody asks: contents that outlive their holders, and that do not.
    base: u64,
    spare: u64,
    /// What the guest and the mate hold.
    shown: u64,
}

impl Script {
    pub(crate) fn new(socket: PathBuf, keeps: bool) -> Self {
        Self {
            socket,
            keeps,
            owner: None,
            guest: None,
            mate: None,
            comer: None,
            known: Known::default(),
            manner: Manner::default(),
            base: 0,
            spare: 0,
            shown: 0,
        }
    }

    pub(crate) fn prepare(&mut self) -> Tally {
        self.begin(true);
        let (socket, manner) = (&self.socket, &mut self.manner);
        self.owner = Client::attach(socket, "owner", manner);
        self.guest = Client::attach(socket, "guest", manner);
        self.mate = Client::attach(socket, "owner", manner);
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
        for other in [&mut self.guest, &mut self.mate, &mut self.comer] {
            let is_back = other.as_mut().is_none_or(|it| it.is_back(None, manner));
            assert!(is_back, "it is let in");
        }
        self.look_at_all();
        self.look_at_shares();
        self.let_go();
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
        self.look_at_shares();
        self.let_go();
        self.give_all_back();
        let others = [self.comer.take(), self.mate.take(), self.guest.take()];
        for client in others.into_iter().chain([self.owner.take()]) {
            let mut client = client.expect("everybody is let in");
            client.ask(ask::detach(), None, &mut self.manner);
        }
        std::mem::take(&mut self.manner.tally)
    }

    /// The daemon is another one than before.
    fn begin(&mut self, insists: bool) {
        let clients = [&mut self.owner, &mut self.guest, &mut self.mate];
        for client in clients.into_iter().chain([&mut self.comer]).flatten() {
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
        self.shown = self.lend("shown", 9).expect("it is granted");
        self.is_seen(self.shown, "shown");
        self.shut("closed", 10);
    }

    fn go_through(&mut self) {
        self.pass_by();
        if self.comer.is_none() {
            self.comer = Client::attach(&self.socket, "owner", &mut self.manner);
        }
        if let Some(comer) = &mut self.comer {
            let (known, manner) = (&self.known, &mut self.manner);
            opens(comer, "shown", known, self.shown, manner);
        }
        self.sizes_and_shares();
        self.leases();
        self.lifetimes();
        self.is_kept();
        self.lend("lent", 4);
        self.shut("shut", 5);
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
        self.is_seen(id, "common");
        self.revoke(id);
        self.relocate(id);
        self.refresh(id);
    }

    /// Lets the guest see a segment.
    fn share(&mut self, id: u64) {
        let Some(guest) = &self.guest else {
            return;
        };
        let tenant = guest.tenant();
        let shared = self.asks(ask::share(id, &tenant, Access::ReadOnly));
        let mine = self.known.mine.get_mut(&id).expect("granted");
        match shared {
            Asked::Done(_) => mine.shares = BTreeSet::from([true]),
            Asked::InDoubt => _ = mine.shares.insert(true),
            Asked::Refused | Asked::LeftOut => {}
        }
    }

    /// The guest looks at it.
    fn is_seen(&mut self, id: u64, name: &str) {
        let (Some(owner), Some(guest)) = (&self.owner, &mut self.guest) else {
            return;
        };
        let is_shown = self.known.mine[&id].shares == BTreeSet::from([true]);
        self.manner.doubts = self.known.is_in_doubt() || !is_shown;
        let name = format!("{}:{name}", owner.tenant());
        opens(guest, &name, &self.known, id, &mut self.manner);
    }

    /// Takes that back: what the guest had moves away from it.
    fn revoke(&mut self, id: u64) {
        let Some(guest) = &mut self.guest else {
            return;
        };
        let tenant = guest.tenant();
        let revoked = self.asks(ask::revoke(id, &tenant));
        let mine = self.known.mine.get_mut(&id).expect("granted");
        let guest = self.guest.as_mut().expect("seen");
        match revoked {
            Asked::Done(answer) => {
                mine.replace(granted(*answer));
                mine.write(2);
                mine.shares = BTreeSet::from([false]);
                guest.holds.is_closed(id);
            }
            Asked::InDoubt => {
                mine.may_have_moved = true;
                mine.shares.insert(false);
                guest.holds.may_be_closed(id);
            }
            Asked::Refused | Asked::LeftOut => {}
        }
    }

    /// A segment that the guest may see, and goes on to.
    fn lend(&mut self, name: &str, seed: u64) -> Option<u64> {
        let id = self.create(name, ask::create_named("ddr", EXTENT, name))?;
        self.wrote(id, seed);
        self.share(id);
        Some(id)
    }

    /// A segment that nobody writes any more, and that stays so.
    fn shut(&mut self, name: &str, seed: u64) {
        let create = ask::create_persistent("pooled", EXTENT, name);
        if let Some(id) = self.create(name, create) {
            self.wrote(id, seed);
            self.seal(id, name);
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
            if opens(mate, "leased", known, id, manner) {
                let acquired = mate.ask(domain::acquire(id, 0), None, manner);
                if matches!(acquired, Asked::Done(_)) {
                    mate.ask(domain::release(id, 0), None, manner);
                }
                match mate.ask(ask::close(id), None, manner) {
                    Asked::Done(_) => mate.holds.is_closed(id),
                    Asked::InDoubt => mate.holds.may_be_closed(id),
                    Asked::Refused | Asked::LeftOut => {}
                }
            }
            opens(mate, "shown", known, self.shown, manner);
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
        self.seal(id, "kept");
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

    fn seal(&mut self, id: u64, name: &str) {
        let writers = match self.asks(ask::open(name, Access::ReadWrite)) {
            Asked::Done(answer) => match answer.body {
                reply::Body::Granted(granted) => granted.writers,
                other => panic!("a grant was hoped for, and there came {other:?}"),
            },
            _ => return,
        };
        self.known.mine.get_mut(&id).expect("granted").is_held = true;
        let asked = self.asks(ask::seal(id, writers));
        let mine = self.known.mine.get_mut(&id).expect("granted");
        match asked {
            Asked::Done(answer) => {
                let held = granted(*answer);
                assert!(held.segment.sealed && held.access == Access::ReadOnly);
                mine.seals = BTreeSet::from([true]);
                mine.replace(held);
            }
            Asked::InDoubt => _ = mine.seals.insert(true),
            Asked::Refused | Asked::LeftOut => {}
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
        let asked = self.asks(ask::free(id, true));
        let others = [&mut self.guest, &mut self.mate, &mut self.comer];
        let others = others.into_iter().flatten();
        match asked {
            Asked::Done(_) => {
                self.known.is_gone(id);
                others.for_each(|it| it.holds.is_closed(id));
            }
            Asked::InDoubt => {
                self.known.mine.get_mut(&id).expect("granted").may_be_gone = true;
                others.for_each(|it| it.holds.may_be_closed(id));
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
            // Where clients alone keep descriptors, what nobody held has ended with the daemon.
            if self.keeps && !mine.is_held {
                match owner.tries(body) {
                    Ok(answer) => mine.replace(granted(answer)),
                    Err(Unanswered::Refused(error)) if error.reason() == ErrorReason::Busy => {
                        self.manner.tally.left_out += 1;
                    }
                    Err(error) => panic!("{name}: {error}"),
                }
                continue;
            }
            self.manner.awaits = mine.may_have_moved;
            if let Asked::Done(answer) = owner.ask(body, None, &mut self.manner) {
                mine.replace(granted(*answer));
            }
        }
        self.manner.awaits = false;
    }

    /// The guest sees what it was shown for sure, and nothing that was taken back for sure.
    fn look_at_shares(&mut self) {
        let listed = self.listed().expect("a list");
        let owner = self.owner.as_ref().expect("prepared").tenant();
        let guest = self.guest.as_mut().expect("prepared");
        for segment in listed {
            let (id, name) = (segment.segment_id, &segment.name);
            let Some(mine) = self.known.mine.get(&id).filter(|_| !name.is_empty()) else {
                continue;
            };
            let open = ask::open(&format!("{owner}:{name}"), Access::ReadOnly);
            let is_shown = match guest.tries(open) {
                Ok(answer) => {
                    mine.is_right(&granted(answer));
                    guest.holds.is_opened(id);
                    true
                }
                Err(Unanswered::Refused(error)) => match error.reason() {
                    ErrorReason::Busy if mine.may_have_moved => continue,
                    ErrorReason::NotFound | ErrorReason::NotPermitted => false,
                    _ => panic!("{name}: {error:?}"),
                },
                Err(gone) => panic!("{name}: {gone}"),
            };
            assert!(
                mine.shares.contains(&is_shown),
                "{name} is shared: {is_shown}, and should be {:?}",
                mine.shares
            );
        }
    }

    /// What others hold is theirs until they let go of it.
    fn let_go(&mut self) {
        let others = [&mut self.guest, &mut self.mate, &mut self.comer];
        for other in others.into_iter().flatten() {
            other.lets_go(&mut self.manner);
        }
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

/// Another one than its maker opens a segment, to read it, and holds it. Whether it does for sure.
fn opens(by: &mut Client, name: &str, known: &Known, id: u64, manner: &mut Manner) -> bool {
    match by.ask(ask::open(name, Access::ReadOnly), None, manner) {
        Asked::Done(answer) => {
            known.mine[&id].is_right(&granted(*answer));
            by.holds.is_opened(id);
            true
        }
        Asked::InDoubt => {
            by.holds.may_be_opened(id);
            false
        }
        Asked::Refused | Asked::LeftOut => false,
    }
}
