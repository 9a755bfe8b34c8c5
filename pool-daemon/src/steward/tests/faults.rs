//! A steward whose daemon dies between two steps, and one whose fabric is broken or means harm.

use fabric_emu::cci::U24;
use fabric_emu::cci::dcd::{
    DcRegion, GetDcConfigResponse, GetDcExtentListResponse, TrackingLimits,
};
use fabric_emu::cci::event_records::{
    DynamicCapacityEvent, DynamicCapacityEventType, EventBody, EventHeader, EventRecord,
};
use fabric_emu::cci::poison::{GetPoisonListRequest, GetPoisonListResponse, MediaErrorRecord};

use super::*;

/// What a fabric answers, whatever it was asked.
type Script<'s> = &'s mut dyn FnMut(&Request) -> Result<Response, Unanswered>;

/// A steward of a region of so many extents, and a pool that takes what it is told.
struct Alone {
    steward: Steward,
    demand: Demand,
    now: Nanos,
    said: Vec<Capacity>,
    asked: Vec<Request>,
}

impl Alone {
    fn new(most: u32) -> Self {
        Self {
            steward: Steward::new(terms(LdId(0))),
            demand: Demand {
                total: Extents::ZERO,
                free: Extents::ZERO,
                most: Extents::new(most),
                wanted: Extents::ZERO,
                draining: false,
                removed: false,
            },
            now: Nanos::from_millis(1_000),
            said: Vec::new(),
            asked: Vec::new(),
        }
    }

    /// Until the steward rests.
    fn round(&mut self, fabric: Script<'_>) {
        self.now = self.now.saturating_add(Nanos::from_millis(10));
        for _ in 0..5_000 {
            let request = match self.steward.next(self.now, &self.demand) {
                Do::Rest(_) => return,
                Do::Say(_, word) => {
                    self.said.push(word);
                    continue;
                }
                Do::Mailbox(request) | Do::Manager(request) => request,
            };
            let answer = fabric(&request);
            let answer = answer.as_ref().map_err(|&unanswered| unanswered);
            self.steward.answered(self.now, answer);
            self.asked.push(request);
        }
        panic!("a round does not end");
    }
}

/// A fabric with nothing to say.
fn quiet(request: &Request) -> Result<Response, Unanswered> {
    let region = DcRegion {
        region_base: 0,
        region_decode_length: 1 << 40,
        region_length: 1 << 40,
        region_block_size: EXTENT_BYTES,
        dsmad_handle: 0,
        flags: 0,
    };
    Ok(match request {
        Request::GetDcConfig(_) => Response::GetDcConfig(GetDcConfigResponse {
            available_regions: 1,
            regions: vec![region].try_into().unwrap(),
            limits: TrackingLimits {
                supported_extents: 0,
                available_extents: 0,
                supported_tags: 0,
                available_tags: 0,
            },
        }),
        Request::GetTimestamp(_) => Response::GetTimestamp(Timestamp {
            timestamp_ns: STAMP_NS,
        }),
        Request::SetTimestamp(_) => Response::SetTimestamp(Empty),
        Request::GetEventRecords(_) => Response::GetEventRecords(log(Vec::new(), 0)),
        Request::ClearEventRecords(_) => Response::ClearEventRecords(Empty),
        Request::GetDcExtentList(_) => Response::GetDcExtentList(extents(&[], 0)),
        Request::GetPoisonList(_) => Response::GetPoisonList(poison(&[], 0)),
        Request::ReleaseDc(_) => Response::ReleaseDc(Empty),
        _ => return Err(Unanswered::Refused(ReturnCode::InvalidInput)),
    })
}

fn log(records: Vec<EventRecord>, flags: u8) -> GetEventRecordsResponse {
    GetEventRecordsResponse {
        flags,
        overflow_error_count: 0,
        first_overflow_timestamp_ns: 0,
        last_overflow_timestamp_ns: 0,
        records: records.try_into().unwrap(),
    }
}

fn extents(runs: &[(u32, u32)], total: u32) -> GetDcExtentListResponse {
    let extent = |&(first, count): &(u32, u32)| DpaExtent {
        start_dpa: u64::from(first) * EXTENT_BYTES,
        length: u64::from(count) * EXTENT_BYTES,
        tag: Tag::default(),
        shared_extent_sequence: 0,
    };
    let all: Vec<DpaExtent> = runs.iter().map(extent).collect();
    GetDcExtentListResponse {
        total_extent_count: total,
        extent_list_generation: 1,
        extents: all.try_into().unwrap(),
    }
}

fn poison(lines: &[u64], poison_list_flags: u8) -> GetPoisonListResponse {
    let record = |&media_error_address: &u64| MediaErrorRecord {
        media_error_address,
        media_error_length: 1,
    };
    let records: Vec<MediaErrorRecord> = lines.iter().map(record).collect();
    GetPoisonListResponse {
        poison_list_flags,
        overflow_timestamp_ns: 0,
        records: records.try_into().unwrap(),
    }
}

impl Rig {
    /// Takes steps until the next one is a command that is looked for, which is not sent.
    fn until(&mut self, is_it: impl Fn(&Request) -> bool) {
        self.now = self.now.saturating_add(Nanos::from_millis(10));
        for _ in 0..200 {
            match self.steward.next(self.now, &self.pool.demand()) {
                Do::Mailbox(request) | Do::Manager(request) if is_it(&request) => return,
                Do::Mailbox(request) => {
                    let (host, memdev, ld) = (HOST, POOL, LdId(0));
                    self.ask(Cci::Mailbox { host, memdev, ld }, &request);
                }
                Do::Manager(request) => self.ask(Cci::Memdev(POOL), &request),
                Do::Say(_, word) => self.hear(word),
                Do::Rest(_) => panic!("it rests"),
            }
        }
        panic!("it is not sent");
    }

    /// The daemon dies and the next one begins.
    fn begins_anew(&mut self) {
        self.steward = Steward::new(terms(LdId(0)));
        self.pool.is_reached = false;
        self.pool.said.clear();
    }
}

#[test]
fn an_offer_that_a_daemon_died_before_answering_keeps_the_next_ones_waiting_for_nobody() {
    let mut rig = Rig::new();
    rig.round();
    rig.manager(0, None, 8);
    rig.until(|request| matches!(request, Request::AddDcResponse(_)));
    rig.begins_anew();
    rig.pool.wanted = 20;
    rig.pass(50);
    assert!(rig.pool.there.count() >= 20, "{}", rig.pool.there.count());
    assert_eq!(rig.pool.there.count(), rig.really());
}

#[test]
fn offers_that_were_forgotten_while_a_link_was_out_keep_the_next_ones_waiting_for_nobody() {
    let mut rig = Rig::new();
    rig.round();
    rig.manager(0, None, 8);
    rig.until(|request| matches!(request, Request::AddDcResponse(_)));
    let port = Port {
        node: Node::Switch(SwitchId(0)),
        port: PortId(2),
    };
    rig.fault(Fault::LinkFails(port));
    rig.pass(700);
    rig.fault(Fault::LinkHeals(port));
    rig.pool.wanted = 20;
    rig.pass(50);
    assert!(rig.pool.there.count() >= 20, "{}", rig.pool.there.count());
}

#[test]
fn what_was_taken_while_no_daemon_looked_is_gone_even_where_it_is_offered_again() {
    let mut rig = Rig::new();
    rig.round();
    rig.uses(8);
    let all = rig.span(0, 8);
    rig.manager(0, Some((true, all)), 0);
    rig.manager(0, None, 8);
    rig.begins_anew();
    rig.round();
    assert_eq!(rig.pool.said[0], Capacity::Present(Vec::new()));
    assert_eq!(rig.pool.used.count(), 0, "nothing of before is in it");
}

#[test]
fn offers_that_come_together_are_taken_only_as_far_as_there_is_room_for_all() {
    let mut rig = Rig::new();
    rig.round();
    rig.pool.most = 16;
    rig.manager(0, None, 8);
    rig.manager(0, None, 8);
    rig.pass(10);
    assert_eq!(rig.really(), 16);
    assert_eq!(rig.pool.there.count(), 16);
}

#[test]
fn memory_beyond_the_most_that_a_device_may_be_is_left_to_others() {
    let mut rig = Rig::new();
    rig.round();
    let span = rig.span(100, 8);
    let extent = DpaExtent {
        start_dpa: span.start,
        length: span.bytes,
        tag: Tag::default(),
        shared_extent_sequence: 0,
    };
    let offer = Request::InitiateAdd(InitiateAddRequest {
        host_id: LdId(0),
        selection_policy: SelectionPolicy::Prescriptive,
        region_number: 0,
        length: 0,
        tag: Tag::default(),
        extents: Some(vec![extent].try_into().unwrap()),
    });
    let at = rig.at();
    rig.fabric.ask(at, Cci::Memdev(POOL), &offer).unwrap();
    rig.pass(10);
    assert_eq!(rig.really(), 8, "extent 100 of 64 is none");
    // One that has it all the same, of a time when the device might be larger.
    rig.pool.most = 4;
    rig.pass(10);
    assert_eq!(rig.really(), 4);
}

#[test]
fn a_list_of_poison_without_end_keeps_nothing_else_from_being_done() {
    let mut alone = Alone::new(64);
    let mut line = 0;
    alone.round(&mut |request| match request {
        Request::GetPoisonList(_) => {
            line += EXTENT_BYTES;
            let more = GetPoisonListResponse::MORE;
            Ok(Response::GetPoisonList(poison(&[line], more)))
        }
        other => quiet(other),
    });
    assert!(alone.said.contains(&Capacity::Reached(true)));
}

#[test]
fn a_list_of_poison_elsewhere_is_read_on_and_not_from_its_beginning_again() {
    let mut alone = Alone::new(64);
    let mut parts = 0;
    alone.round(&mut |request| match request {
        Request::GetPoisonList(asked) => {
            parts += 1;
            let begins = asked.physical_address & GetPoisonListRequest::RESTART != 0;
            assert_eq!(begins, parts == 1);
            let (line, flags) = match parts {
                1 => (1 << 50, GetPoisonListResponse::MORE),
                _ => (EXTENT_BYTES, 0),
            };
            Ok(Response::GetPoisonList(poison(&[line], flags)))
        }
        Request::GetDcExtentList(_) => Ok(Response::GetDcExtentList(extents(&[(0, 8)], 1))),
        other => quiet(other),
    });
    let run = Run { first: 1, count: 1 };
    assert!(alone.said.contains(&Capacity::Poisoned(vec![run])));
}

#[test]
fn a_list_of_extents_without_end_is_no_list() {
    let mut alone = Alone::new(64);
    alone.round(&mut |request| match request {
        Request::GetDcExtentList(asked) => {
            let first = asked.starting_extent_index * 2;
            let runs: Vec<_> = (0..1_024).map(|it| (first + 2 * it, 1)).collect();
            Ok(Response::GetDcExtentList(extents(&runs, u32::MAX)))
        }
        other => quiet(other),
    });
    let told = |word: &Capacity| matches!(word, Capacity::Present(runs) if !runs.is_empty());
    assert!(!alone.said.iter().any(told));
    assert!(!alone.said.contains(&Capacity::Reached(true)));
}

#[test]
fn a_list_of_extents_that_is_cut_short_says_of_nothing_that_it_is_gone() {
    let mut alone = Alone::new(64);
    alone.round(&mut |request| match request {
        Request::GetDcExtentList(_) => Ok(Response::GetDcExtentList(extents(&[(0, 8)], 1))),
        other => quiet(other),
    });
    let there = Capacity::Present(vec![Run { first: 0, count: 8 }]);
    assert!(alone.said.contains(&there));
    alone.said.clear();
    alone.round(&mut |request| match request {
        Request::GetDcExtentList(_) => Ok(Response::GetDcExtentList(extents(&[], 4))),
        other => quiet(other),
    });
    assert_eq!(alone.said, [Capacity::Reached(false)]);
}

#[test]
fn a_manager_that_does_not_answer_is_asked_once_and_again_after_a_while() {
    let mut alone = Alone::new(64);
    alone.demand.wanted = Extents::new(60);
    let asks = |alone: &Alone| {
        let asked = alone.asked.iter();
        asked
            .filter(|it| matches!(it, Request::InitiateAdd(_)))
            .count()
    };
    let mut deaf = |request: &Request| match request {
        Request::InitiateAdd(_) => Err(Unanswered::Unreached),
        other => quiet(other),
    };
    alone.round(&mut deaf);
    assert_eq!(asks(&alone), 1);
    alone.round(&mut deaf);
    assert_eq!(asks(&alone), 1, "10 ms are no while");
}

#[test]
fn records_that_cannot_be_cleared_are_not_kept_without_bound() {
    let mut alone = Alone::new(64);
    let extent = extents(&[(0, 1)], 1).extents[0].clone();
    let record = |handle: u16| EventRecord {
        header: EventHeader {
            length: 128,
            flags: U24::new(0).unwrap(),
            handle,
            related_handle: 0,
            timestamp_ns: 0,
            maintenance_operation_class: 0,
            maintenance_operation_subclass: 0,
            ld_id: LdId(0),
            head_id: 0,
        },
        body: EventBody::DynamicCapacity(DynamicCapacityEvent {
            event_type: DynamicCapacityEventType::AddCapacity,
            validity_flags: 0,
            host_id: LdId(0),
            updated_region_index: 0,
            flags: DynamicCapacityEvent::MORE,
            extent: extent.clone(),
            available_extents: 0,
            available_tags: 0,
        }),
    };
    for _ in 0..400 {
        alone.round(&mut |request| match request {
            Request::GetEventRecords(_) => {
                let records = (1..=255).map(&record).collect();
                Ok(Response::GetEventRecords(log(records, 0)))
            }
            Request::ClearEventRecords(_) => Err(Unanswered::Refused(ReturnCode::InvalidHandle)),
            other => quiet(other),
        });
    }
    assert!(alone.steward.half_offer.pieces.len() <= 65_536);
}

#[test]
fn memory_in_many_pieces_is_given_back_in_as_many_commands_as_it_takes() {
    let mut alone = Alone::new(400_000);
    let runs: Vec<(u32, u32)> = (0..100_000).map(|it| (2 * it, 1)).collect();
    let mut fabric = |request: &Request| match request {
        Request::GetDcExtentList(asked) => {
            let from = asked.starting_extent_index as usize;
            let part = &runs[from..(from + 1_024).min(runs.len())];
            Ok(Response::GetDcExtentList(extents(part, 100_000)))
        }
        other => quiet(other),
    };
    alone.round(&mut fabric);
    let free = Extents::new(100_000);
    (alone.demand.total, alone.demand.free) = (free, free);
    alone.demand.draining = true;
    alone.round(&mut fabric);
    let asked_for = |word: &Capacity| matches!(word, Capacity::Withdraw { .. });
    assert!(alone.said.iter().any(asked_for));
    let all = runs.iter().map(|&(first, count)| Run { first, count });
    alone.steward.withdrawn(alone.now, all.collect());
    alone.asked.clear();
    alone.round(&mut fabric);
    let released = alone.asked.iter().map(|request| match request {
        Request::ReleaseDc(list) => list.extents.len(),
        _ => 0,
    });
    let released: Vec<usize> = released.filter(|&count| count > 0).collect();
    assert_eq!(released.iter().sum::<usize>(), 100_000);
    assert!(
        released.iter().all(|&count| count <= 10_000),
        "a message each"
    );
}
