//! What an interface keeps for itself: how long answers may be, what time it was told, and what
//! goes on in the background.

use pool_core::planted;

use super::super::Fabric;
use super::super::event::Effect;
use super::super::fault::{Fault, Glitch};
use super::{Answer, Cci, Done, Logical};
use crate::capacity::{Freed, GroupId};
use crate::cci::virtual_switch::UnbindOption;
use crate::cci::{Opcode, ReturnCode};
use crate::id::{HostId, LdId, MemdevId, Node, PortId, SwitchId, VcsId, VppbId};
use crate::span::Span;
use crate::switch::Bound;
use crate::timing::{Picos, Rate};

/// As long as answers are before anybody says something else: 2 to the power of this, in bytes.
const LIMIT: u8 = 20;
/// How long a switch takes to bind or unbind a bridge. Assumed.
const BIND_TIME: Picos = Picos::from_nanos(10_000_000);
/// How fast a device zeros. Assumed.
const ZERO_RATE: Rate = Rate::new(20_000_000_000);

/// See the module.
#[derive(Debug, Clone)]
pub(in super::super) struct Component {
    /// The longest answer: 2 to the power of this, in bytes.
    pub(super) limit: u8,
    /// When it was told the time, and what: time of the fabric, nanoseconds since 1970.
    pub(super) clock: Option<(Picos, u64)>,
    pub(super) background: Option<Background>,
    /// How hosts are told of events.
    pub(super) interrupts: [u8; 5],
    /// Which range of poison is being listed, and from where on the next command goes on.
    pub(super) poison: Option<(Span, u64)>,
    /// What is wrong with the next commands, and with how many.
    pub(in super::super) glitch: Option<(Glitch, u16)>,
    /// What goes on in the background never ends.
    pub(in super::super) hangs: bool,
}

impl Component {
    /// One that was told nothing.
    const NEW: Self = Self {
        limit: LIMIT,
        clock: None,
        background: None,
        interrupts: [0; 5],
        poison: None,
        glitch: None,
        hangs: false,
    };
}

/// Something that goes on, or went on, in the background.
#[derive(Debug, Clone)]
pub(super) struct Background {
    pub(super) opcode: u16,
    pub(super) begun: Picos,
    pub(super) due: Picos,
    /// How it ended.
    pub(super) ended: Option<ReturnCode>,
    work: Work,
    /// Under what its end is among the timers.
    timer: (Picos, u64),
}

/// What is to be done when its time is over.
#[derive(Debug, Clone, Copy)]
enum Work {
    Bind(SwitchId, (VcsId, VppbId), Bound),
    Unbind(SwitchId, (VcsId, VppbId)),
    /// And before that the host writes back what it wrote of what is behind the bridge.
    UnbindManaged(SwitchId, (VcsId, VppbId)),
    /// Once the link of the port is down.
    UnbindOnceDown(SwitchId, (VcsId, VppbId), PortId),
    /// It is done already.
    Sanitize,
}

/// Something that happens at a time.
#[derive(Debug, Clone)]
pub(in super::super) enum Timer {
    /// What went on in the background of an interface is over.
    Background(Cci),
    /// Memory is zeroed.
    Zeroed(MemdevId, GroupId),
    /// An answer comes.
    Answer(Cci, Vec<u8>),
    /// Something goes wrong that was planned.
    Fault(Fault),
    /// A copy ends, or its bytes are through and others have its share.
    Copies,
}

impl Fabric {
    pub(in super::super) fn component(&self, cci: Cci) -> &Component {
        self.components.get(&cci).unwrap_or(&Component::NEW)
    }

    pub(in super::super) fn component_mut(&mut self, cci: Cci) -> &mut Component {
        self.components.entry(cci).or_insert(Component::NEW)
    }

    /// What goes on in the background of a component, if anything does.
    pub(super) fn goes_on(&self, cci: Cci) -> Option<&Background> {
        let background = self.component(cci).background.as_ref()?;
        background.ended.is_none().then_some(background)
    }

    /// Begins to bind a bridge.
    pub(super) fn begin_to_bind(
        &mut self,
        (cci, switch): (Cci, SwitchId),
        bridge: (VcsId, VppbId),
        to: Bound,
    ) -> Answer {
        let work = Work::Bind(switch, bridge, to);
        self.begin(cci, (Opcode::BindVppb, work), |_| BIND_TIME)
    }

    /// Begins to unbind one.
    pub(super) fn begin_to_unbind(
        &mut self,
        (cci, switch): (Cci, SwitchId),
        bridge: (VcsId, VppbId),
        (option, port): (UnbindOption, PortId),
    ) -> Answer {
        let work = match option {
            UnbindOption::SurpriseHotRemove => Work::Unbind(switch, bridge),
            UnbindOption::ManagedHotRemove => Work::UnbindManaged(switch, bridge),
            UnbindOption::WaitForLinkDown => Work::UnbindOnceDown(switch, bridge, port),
        };
        let answer = self.begin(cci, (Opcode::UnbindVppb, work), |_| match option {
            UnbindOption::WaitForLinkDown => Picos::MAX,
            _ => BIND_TIME,
        });
        self.links_changed();
        answer
    }

    /// What waited for a link to be down goes on.
    pub(in super::super) fn links_changed(&mut self) {
        let waits = |(&cci, component): (&Cci, &Component)| {
            let background = component.background.as_ref()?;
            let is_under_way = background.ended.is_none() && background.due == Picos::MAX;
            match background.work {
                Work::UnbindOnceDown(switch, _, port) if is_under_way && !component.hangs => {
                    Some((cci, Node::Switch(switch), port))
                }
                _ => None,
            }
        };
        let waiting: Vec<_> = self.components.iter().filter_map(waits).collect();
        for (cci, node, port) in waiting {
            if self
                .link_at(node, port)
                .is_some_and(|(_, link)| link.is_up())
            {
                continue;
            }
            let due = self.now.saturating_add(BIND_TIME);
            let timer = self.at(due, Timer::Background(cci));
            if let Some(background) = &mut self.component_mut(cci).background {
                (background.due, background.timer) = (due, timer);
            }
        }
    }

    /// Begins to zero what the host of a logical device reaches: that is gone at once, and it is
    /// the answer that takes its time.
    pub(super) fn begin_to_sanitize(&mut self, cci: Cci, (memdev, ld): Logical) -> Answer {
        let takes = |fabric: &mut Self| {
            let bytes = fabric.sanitize(memdev, ld);
            fabric.zero_time(memdev, bytes).max(Picos::new(1))
        };
        self.begin(cci, (Opcode::Sanitize, Work::Sanitize), takes)
    }

    /// Begins something, unless something is under way; how long it takes `takes` says.
    fn begin(
        &mut self,
        cci: Cci,
        (opcode, work): (Opcode, Work),
        takes: impl FnOnce(&mut Self) -> Picos,
    ) -> Answer {
        if self.goes_on(cci).is_some() && !planted!("command.begins_two_at_once") {
            return Err(ReturnCode::Busy);
        }
        let takes = takes(self);
        let (begun, due) = (self.now, self.now.saturating_add(takes));
        let timer = self.at(due, Timer::Background(cci));
        if self.component(cci).hangs || due == Picos::MAX {
            self.timers.remove(&timer);
        }
        self.component_mut(cci).background = Some(Background {
            opcode: opcode.number(),
            begun,
            due,
            ended: None,
            work,
            timer,
        });
        Ok(Done::Begun)
    }

    /// Gives up what goes on in the background.
    pub(super) fn abort(&mut self, cci: Cci) -> Result<(), ReturnCode> {
        let component = self.components.get_mut(&cci);
        let background = component.and_then(|component| component.background.as_mut());
        match background.filter(|background| background.ended.is_none()) {
            // What is zeroed in part is of no use to anybody.
            Some(Background {
                work: Work::Sanitize,
                ..
            }) => Err(ReturnCode::RequestAbortBackgroundOperationNotSupported),
            Some(background) => {
                background.ended = Some(ReturnCode::Aborted);
                let timer = background.timer;
                self.timers.remove(&timer);
                Ok(())
            }
            None => Err(ReturnCode::InvalidInput),
        }
    }

    /// Has interfaces start anew: what went on in their background goes on no more, and what they
    /// were late to answer is not answered.
    pub(in super::super) fn start_anew(&mut self, is_one: impl Fn(Cci) -> bool) {
        let timers = &mut self.timers;
        timers.retain(|_, timer| !matches!(timer, Timer::Answer(cci, _) if is_one(*cci)));
        self.components.retain(|&cci, component| {
            if is_one(cci)
                && let Some(background) = &component.background
            {
                timers.remove(&background.timer);
            }
            !is_one(cci)
        });
    }

    /// What goes on in the background does not end.
    pub(in super::super) fn hold_background(&mut self, cci: Cci) {
        if let Some(timer) = self.goes_on(cci).map(|background| background.timer) {
            self.timers.remove(&timer);
        }
    }

    /// What hung in the background ends, now or when its time is over.
    pub(in super::super) fn end_background(&mut self, cci: Cci) {
        let Some(due) = self.goes_on(cci).map(|background| background.due) else {
            return;
        };
        if due == Picos::MAX {
            // It waits for something else.
            return self.links_changed();
        }
        let timer = self.at(due.max(self.now), Timer::Background(cci));
        if let Some(background) = &mut self.component_mut(cci).background {
            background.timer = timer;
        }
    }

    /// Has something happen at a time; under what it is among the timers.
    pub(in super::super) fn at(&mut self, due: Picos, timer: Timer) -> (Picos, u64) {
        let key = (due, self.next_timer);
        self.timers.insert(key, timer);
        self.next_timer = self.next_timer.wrapping_add(1);
        key
    }

    /// How long a device takes to zero so many bytes.
    fn zero_time(&self, memdev: MemdevId, bytes: u64) -> Picos {
        let slower = self
            .memdev(memdev)
            .map_or(1, |device| device.condition().slower);
        ZERO_RATE.time_of(bytes).times(slower.into())
    }

    /// Memory that was freed is nobody's from now on; what is to be zeroed is so in a while.
    pub(in super::super) fn freed(&mut self, memdev: MemdevId, freed: &Freed) {
        for &span in &freed.spans {
            self.forget(memdev, span);
        }
        for (group, spans) in &freed.zeroing {
            let bytes: u64 = spans.iter().map(|span| span.bytes).sum();
            for &span in spans {
                self.forget(memdev, span);
            }
            let due = self.now.saturating_add(self.zero_time(memdev, bytes));
            self.at(due, Timer::Zeroed(memdev, *group));
        }
    }

    /// Has what is due by now happen, in its order.
    pub(in super::super) fn run_timers(&mut self, now: Picos) {
        while let Some(entry) = self.timers.first_entry().filter(|it| it.key().0 <= now) {
            let ((due, number), timer) = entry.remove_entry();
            self.now = self.now.max(due);
            match timer {
                Timer::Background(cci) => self.end(cci),
                Timer::Zeroed(memdev, group) => {
                    let device = self.memdevs.get_mut(memdev.index());
                    // It is known, for it was never told before.
                    let _zeroed = device.map(|device| device.zero(group));
                }
                Timer::Answer(cci, answer) => {
                    self.look_at_routes();
                    if self.is_heard_late(cci) {
                        let late = Effect::Late {
                            cci,
                            number,
                            answer,
                        };
                        self.told.push(late);
                    }
                }
                Timer::Fault(fault) => {
                    self.planned = self.planned.saturating_sub(1);
                    // It finds things as they are by now.
                    self.look_at_routes();
                    let mut effects = vec![Effect::Struck { at: due, fault }];
                    self.fail(fault, &mut effects);
                    effects.append(&mut self.lost);
                    self.told.append(&mut effects);
                }
                Timer::Copies => self.go_on_copying(),
            }
            let mut ended = self.look_at_copies();
            self.told.append(&mut ended);
        }
        self.now = self.now.max(now);
    }

    /// Zeros what the host of a logical device reaches; how much that is.
    fn sanitize(&mut self, memdev: MemdevId, ld: LdId) -> u64 {
        let reached = self.memdev(memdev).map(|device| device.reached(ld));
        let mut bytes = 0;
        for span in reached.into_iter().flatten() {
            self.forget(memdev, span);
            bytes += span.bytes;
            if let Some(device) = self.memdev_mut(memdev) {
                device.media_mut().zero(span);
            }
        }
        bytes
    }

    /// Hosts that would not reach something without a bridge write back what they wrote of it, and
    /// let go of it.
    fn ask_to_let_go(&mut self, switch: SwitchId, (vcs, vppb): (VcsId, VppbId)) {
        self.look_at_routes();
        let with = self.reached.clone();
        let Some(Ok(bound)) = self.switch_mut(switch).map(|it| it.unbind(vcs, vppb)) else {
            return;
        };
        self.look_at_routes();
        let without = self.reached.clone();
        // It was bound so, and nothing else is by now.
        let _bound = self
            .switch_mut(switch)
            .map(|it| it.bind((vcs, vppb), bound));
        self.look_at_routes();
        let mut effects = Vec::new();
        for ((host, with), without) in (0..).map(HostId).zip(with).zip(without) {
            for at in with.into_keys().filter(|at| !without.contains_key(at)) {
                self.let_go(host, at, &mut effects);
            }
        }
        effects.retain(|effect| matches!(effect, Effect::Lost { .. }));
        self.told.append(&mut effects);
    }

    fn end(&mut self, cci: Cci) {
        let Some(work) = self.goes_on(cci).map(|background| background.work) else {
            return;
        };
        let done = match work {
            Work::Bind(switch, bridge, to) => {
                let switch = self.switch_mut(switch);
                switch.map_or(Ok(()), |switch| switch.bind(bridge, to))
            }
            Work::UnbindManaged(switch, (vcs, vppb)) => {
                self.ask_to_let_go(switch, (vcs, vppb));
                let switch = self.switch_mut(switch);
                switch.map_or(Ok(()), |switch| switch.unbind(vcs, vppb).map(|_| ()))
            }
            Work::Unbind(switch, (vcs, vppb)) | Work::UnbindOnceDown(switch, (vcs, vppb), _) => {
                let switch = self.switch_mut(switch);
                switch.map_or(Ok(()), |switch| switch.unbind(vcs, vppb).map(|_| ()))
            }
            Work::Sanitize => Ok(()),
        };
        if let Some(background) = &mut self.component_mut(cci).background {
            background.ended = Some(done.map_or_else(ReturnCode::from, |()| ReturnCode::Success));
        }
    }
}
