//! Dynamic capacity against an oracle that knows of each block only what was last written there.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const BLOCK: u64 = 4;
/// Of the device, and of each region: of the latter more than of the former.
const BLOCKS: u64 = 12;
const REGION_BLOCKS: u64 = 8;
const LDS: u16 = 3;
/// The regions of each logical device.
const PLAIN: usize = 0;
const SHARED: usize = 1;

fn span(start: u64, blocks: u64) -> Span {
    Span::new(start * BLOCK, blocks * BLOCK).unwrap()
}

fn tag(number: u8) -> Tag {
    let mut tag = NO_TAG;
    tag.0[15] = number;
    tag
}

fn device() -> Capacity {
    let region = |first, is_sharable| Region {
        span: span(first, REGION_BLOCKS),
        block: BLOCK,
        is_sharable,
        is_read_only: false,
        sanitizes: is_sharable,
        is_hardware_coherent: false,
    };
    let regions = vec![region(0, false), region(100, true)];
    Capacity::new(span(1_000, BLOCKS), &vec![regions; usize::from(LDS)])
}

fn spans(extents: &[Extent]) -> Vec<Span> {
    extents.iter().map(|extent| extent.span).collect()
}

/// The offer is taken as a whole.
fn add(device: &mut Capacity, ld: u16, region: usize, blocks: u64, tag: Tag) -> Vec<Span> {
    let what = Selection::Free(blocks * BLOCK);
    let offered = device.offer((LdId(ld), region), &what, tag, 9).unwrap();
    let spans = spans(&offered);
    let answered = device.answer(LdId(ld), &spans).unwrap();
    assert_eq!(answered.added, offered);
    device.check().unwrap();
    spans
}

#[test]
fn a_host_has_what_it_takes_and_the_rest_is_free() {
    let mut device = device();
    let what = Selection::Free(4 * BLOCK);
    let offered = device.offer((LdId(0), PLAIN), &what, NO_TAG, 9).unwrap();
    assert_eq!(spans(&offered), [span(0, 4)]);
    assert!(device.extents(LdId(0)).unwrap().is_empty());
    assert_eq!(device.place(LdId(0), 0), None);
    let answered = device.answer(LdId(0), &[span(1, 2)]).unwrap();
    assert_eq!(spans(&answered.added), [span(1, 2)]);
    assert_eq!(answered.freed.spans.len(), 2);
    assert_eq!(device.free_bytes(), 10 * BLOCK);
    assert_eq!(device.place(LdId(0), 0), None);
    let place = device.place(LdId(0), BLOCK + 1).unwrap();
    assert_eq!(
        (place.physical, place.bytes),
        (1_001 * BLOCK + 1, 2 * BLOCK - 1)
    );
    device.check().unwrap();
}

#[test]
fn what_is_shared_is_the_same_memory_and_leaves_as_a_whole() {
    let mut device = device();
    let first = add(&mut device, 0, SHARED, 3, tag(1));
    let shared = device
        .offer((LdId(1), SHARED), &Selection::Shared, tag(1), 9)
        .unwrap();
    assert_eq!(shared[0].sequence, 1);
    device.answer(LdId(1), &spans(&shared)).unwrap();
    let at = |device: &Capacity, ld| device.place(LdId(ld), first[0].start).unwrap().physical;
    assert_eq!(at(&device, 0), at(&device, 1));
    let part = [span(100, 1)];
    let refused = Refusal::Input("what is sharable leaves as a whole");
    assert_eq!(device.release(LdId(0), &part), Err(refused));
    assert!(device.release(LdId(0), &first).unwrap().zeroing.is_empty());
    let freed = device.release(LdId(1), &first).unwrap();
    let [(id, _)] = freed.zeroing[..] else {
        panic!("{freed:?}");
    };
    assert_eq!(device.free_bytes(), 9 * BLOCK);
    device.zeroed(id).unwrap();
    assert_eq!(device.free_bytes(), 12 * BLOCK);
    device.check().unwrap();
}

#[test]
fn what_is_referenced_stays_when_no_host_has_it() {
    let mut device = device();
    let extents = add(&mut device, 0, SHARED, 2, tag(7));
    device.add_reference(tag(7)).unwrap();
    assert!(device.add_reference(tag(7)).is_err());
    device.release(LdId(0), &extents).unwrap();
    assert_eq!(device.free_bytes(), 10 * BLOCK);
    let again = device
        .offer((LdId(2), SHARED), &Selection::Shared, tag(7), 9)
        .unwrap();
    device.answer(LdId(2), &spans(&again)).unwrap();
    device.check().unwrap();
    assert_eq!(device.remove_reference(tag(7)).unwrap(), Freed::default());
    device.vacate(LdId(2)).unwrap();
    assert_eq!(device.tags().count(), 0);
    device.check().unwrap();
}

#[test]
fn what_was_lost_is_kept_by_no_reference_and_offered_to_nobody() {
    let mut device = device();
    let extents = add(&mut device, 0, SHARED, 2, tag(7));
    add(&mut device, 1, SHARED, 2, tag(8));
    for number in [7, 8] {
        device.add_reference(tag(number)).unwrap();
    }
    device.release(LdId(0), &extents).unwrap();
    let shared = Selection::Shared;
    device.offer((LdId(2), SHARED), &shared, tag(8), 9).unwrap();
    device.forget_references();
    device.check().unwrap();
    let left: Vec<_> = device.tags().collect();
    assert_eq!(left.len(), 1, "that of which a host has memory: {left:?}");
    let (lost, views, is_referenced) = &left[0];
    assert_eq!((*lost, views.len(), *is_referenced), (tag(8), 1, false));
}

#[test]
fn what_is_taken_by_force_before_the_answer_keeps_its_addresses_until_then() {
    let mut device = device();
    let what = Selection::Free(8 * BLOCK);
    let offered = device.offer((LdId(0), PLAIN), &what, NO_TAG, 9).unwrap();
    let removal = Removal::Prescriptive(spans(&offered));
    let gone = device.remove(LdId(0), &removal, (true, false), 9).unwrap();
    assert_eq!(gone.freed.spans.len(), 1);
    assert_eq!(device.free_bytes(), 12 * BLOCK);
    device.check().unwrap();
    let more = device.offer((LdId(0), PLAIN), &Selection::Free(BLOCK), NO_TAG, 9);
    assert!(matches!(more, Err(Refusal::Exhausted(_))), "{more:?}");
    let answered = device.answer(LdId(0), &spans(&offered)).unwrap();
    assert!(answered.added.is_empty());
    assert!(device.extents(LdId(0)).unwrap().is_empty());
    device
        .offer((LdId(0), PLAIN), &Selection::Free(BLOCK), NO_TAG, 9)
        .unwrap();
    device.check().unwrap();
}

#[test]
fn what_one_has_written_another_is_given_to_read_alone() {
    let region = |is_read_only| Region {
        span: span(if is_read_only { 100 } else { 0 }, 8),
        block: BLOCK,
        is_sharable: true,
        is_read_only,
        sanitizes: false,
        is_hardware_coherent: false,
    };
    let regions = vec![region(false), region(true)];
    let mut device = Capacity::new(span(0, 8), &[regions.clone(), regions]);
    let written = add(&mut device, 0, 0, 2, tag(1));
    let shared = device
        .offer((LdId(1), 1), &Selection::Shared, tag(1), 9)
        .unwrap();
    device.answer(LdId(1), &spans(&shared)).unwrap();
    let at = |ld, start| device.place(LdId(ld), start).unwrap();
    let (one, other) = (at(0, written[0].start), at(1, shared[0].span.start));
    assert_eq!(one.physical, other.physical);
    assert!(!one.is_read_only && other.is_read_only);
}

#[test]
fn what_was_forced_away_unanswered_is_not_offered_again_before_the_answer() {
    let mut device = device();
    add(&mut device, 0, SHARED, 2, tag(1));
    let share =
        |device: &mut Capacity| device.offer((LdId(1), SHARED), &Selection::Shared, tag(1), 9);
    let offered = spans(&share(&mut device).unwrap());
    let removal = Removal::Prescriptive(offered.clone());
    device.remove(LdId(1), &removal, (true, false), 9).unwrap();
    assert!(matches!(share(&mut device), Err(Refusal::Retry(_))));
    device.answer(LdId(1), &offered).unwrap();
    device.check().unwrap();
    share(&mut device).unwrap();
    device.answer(LdId(1), &offered).unwrap();
    assert_eq!(device.extents(LdId(1)).unwrap().len(), 1);
    device.check().unwrap();
}

#[test]
fn no_list_makes_more_extents_than_are_kept_track_of() {
    let blocks = 4 * MOST_EXTENTS as u64;
    let region = Region {
        span: span(0, blocks),
        block: BLOCK,
        is_sharable: false,
        is_read_only: false,
        sanitizes: false,
        is_hardware_coherent: false,
    };
    let mut device = Capacity::new(span(0, blocks), &[vec![region]]);
    let all = Selection::Free(blocks * BLOCK);
    device.offer((LdId(0), 0), &all, NO_TAG, 9).unwrap();
    let every_other = |count: u64| (0..count).map(|at| span(2 * at, 1)).collect::<Vec<_>>();
    let most = MOST_EXTENTS as u64;
    let old = device.clone();
    let refused = device.answer(LdId(0), &every_other(most + 1));
    assert!(matches!(refused, Err(Refusal::Exhausted(_))));
    assert_eq!(device, old);
    device.answer(LdId(0), &[span(0, blocks)]).unwrap();
    device.release(LdId(0), &every_other(most)).unwrap();
    let old = device.clone();
    let middle = [span(2 * most + 1, 1)];
    let refused = device.release(LdId(0), &middle);
    assert!(matches!(refused, Err(Refusal::Exhausted(_))), "{refused:?}");
    assert_eq!(device, old);
    device.check().unwrap();
}

#[test]
fn refusals_say_which_rule_was_broken() {
    let mut device = device();
    add(&mut device, 0, SHARED, 1, tag(1));
    let old = device.clone();
    let offer = |what, tag, region| {
        let mut device = old.clone();
        let refused = device.offer((LdId(1), region), &what, tag, 2);
        assert_eq!(device, old);
        refused.unwrap_err()
    };
    let free = |blocks| Selection::Free(blocks * BLOCK);
    let at = |list: &[Span]| Selection::Prescriptive(list.to_vec());
    let input = |refusal| assert!(matches!(refusal, Refusal::Input(_)), "{refusal:?}");
    let extents = |refusal| assert!(matches!(refusal, Refusal::Extents(_)), "{refusal:?}");
    input(offer(Selection::Free(1), NO_TAG, PLAIN));
    input(offer(free(0), NO_TAG, PLAIN));
    input(offer(free(1), NO_TAG, SHARED));
    input(offer(free(1), tag(1), SHARED));
    input(offer(free(1), NO_TAG, 2));
    input(offer(Selection::Shared, tag(2), SHARED));
    input(offer(Selection::Shared, tag(1), PLAIN));
    extents(offer(at(&[]), NO_TAG, PLAIN));
    extents(offer(at(&[span(8, 1)]), NO_TAG, PLAIN));
    extents(offer(at(&[span(1, 1), span(1, 1)]), NO_TAG, PLAIN));
    let exhausted = offer(free(9), NO_TAG, PLAIN);
    assert!(matches!(exhausted, Refusal::Exhausted(_)), "{exhausted:?}");
    let retry = offer(at(&[span(1, 1), span(3, 1), span(5, 1)]), NO_TAG, PLAIN);
    assert!(matches!(retry, Refusal::Retry(_)), "{retry:?}");
}

/// One thing that is done to a device.
#[derive(Debug, Clone)]
enum Act {
    Offer(u16, usize, Selection, u8),
    Answer(u16, Vec<Span>),
    AnswerAll(u16),
    Release(u16, Vec<Span>),
    ReleaseOne(u16, usize),
    Remove(u16, Removal, bool, bool),
    Refer(u8),
    ReferNot(u8),
    Reset(u16),
    Vacate(u16),
    Zeroed,
}

fn some_spans() -> impl Strategy<Value = Vec<Span>> {
    let first = prop_oneof![0..REGION_BLOCKS, 100..100 + REGION_BLOCKS];
    let one = (first, 1_u64..5).prop_map(|(first, blocks)| span(first, blocks));
    prop::collection::vec(one, 0..3)
}

fn some_act() -> impl Strategy<Value = Act> {
    let what = prop_oneof![
        (0..7_u64).prop_map(|blocks| Selection::Free(blocks * BLOCK)),
        (0..7_u64).prop_map(|blocks| Selection::Contiguous(blocks * BLOCK)),
        some_spans().prop_map(Selection::Prescriptive),
        Just(Selection::Shared),
    ];
    let removal = prop_oneof![
        some_spans().prop_map(Removal::Prescriptive),
        (0_u8..4, 0..5_u64).prop_map(|(number, blocks)| Removal::Tagged {
            tag: tag(number),
            bytes: blocks * BLOCK,
        }),
    ];
    let ld = 0..LDS;
    prop_oneof![
        6 => (ld.clone(), 0..3_usize, what, 0_u8..4)
            .prop_map(|(ld, region, what, number)| Act::Offer(ld, region, what, number)),
        1 => (ld.clone(), some_spans()).prop_map(|(ld, spans)| Act::Answer(ld, spans)),
        5 => ld.clone().prop_map(Act::AnswerAll),
        1 => (ld.clone(), some_spans()).prop_map(|(ld, spans)| Act::Release(ld, spans)),
        3 => (ld.clone(), 0..4_usize).prop_map(|(ld, which)| Act::ReleaseOne(ld, which)),
        2 => (ld.clone(), removal, any::<bool>(), any::<bool>())
            .prop_map(|(ld, removal, forced, zeroes)| Act::Remove(ld, removal, forced, zeroes)),
        1 => (0_u8..4).prop_map(Act::Refer),
        1 => (0_u8..4).prop_map(Act::ReferNot),
        1 => ld.clone().prop_map(Act::Reset),
        1 => ld.prop_map(Act::Vacate),
        3 => Just(Act::Zeroed),
    ]
}

/// A device, the bytes of it, and what each host wrote last at each of its addresses.
struct Pair {
    device: Capacity,
    memory: BTreeMap<u64, u64>,
    hosts: BTreeMap<(u16, u64), u64>,
    zeroing: Vec<(GroupId, Vec<Span>)>,
    written: u64,
}

impl Pair {
    fn act(&mut self, act: &Act) {
        let old = self.device.clone();
        let freed = self.try_act(act);
        match freed {
            Err(_) => assert_eq!(
                self.device, old,
                "{act:?} was refused and changed something"
            ),
            Ok(freed) => {
                for span in freed.spans {
                    self.memory.retain(|&at, _| span.common(one(at)).is_none());
                }
                self.zeroing.extend(freed.zeroing);
            }
        }
        self.device.check().unwrap();
    }

    fn try_act(&mut self, act: &Act) -> Result<Freed, Refusal> {
        let device = &mut self.device;
        match act.clone() {
            Act::Offer(ld, region, what, number) => {
                device.offer((LdId(ld), region), &what, tag(number), 4)?;
                Ok(Freed::default())
            }
            Act::Answer(ld, spans) => Ok(device.answer(LdId(ld), &spans)?.freed),
            Act::AnswerAll(ld) => {
                let offers = device.ld(LdId(ld))?.offers.front().copied();
                let all = offers.and_then(|id| Some(device.view(id, LdId(ld)).ok()?.1));
                let all = all.map(|view| view.extents.clone()).unwrap_or_default();
                Ok(device.answer(LdId(ld), &all)?.freed)
            }
            Act::Release(ld, spans) => device.release(LdId(ld), &spans),
            Act::ReleaseOne(ld, which) => {
                let extents = device.extents(LdId(ld))?;
                let one = extents.get(which).map(|extent| extent.span);
                device.release(LdId(ld), &one.into_iter().collect::<Vec<_>>())
            }
            Act::Remove(ld, removal, forced, zeroes) => Ok(device
                .remove(LdId(ld), &removal, (forced, zeroes), 4)?
                .freed),
            Act::Refer(number) => device.add_reference(tag(number)).map(|()| Freed::default()),
            Act::ReferNot(number) => device.remove_reference(tag(number)),
            Act::Reset(ld) => device.reset(LdId(ld)),
            Act::Vacate(ld) => device.vacate(LdId(ld)),
            Act::Zeroed => {
                let Some((id, _)) = self.zeroing.pop() else {
                    return Err(Refusal::Input("nothing is zeroed"));
                };
                let spans = device.zeroed(id)?;
                Ok(Freed {
                    spans,
                    zeroing: Vec::new(),
                })
            }
        }
    }

    /// What a host has kept is as it was written; what it has anew, or shares, it reads; then it
    /// writes something else.
    fn compare(&mut self) {
        let mut now = BTreeMap::new();
        for ld in 0..LDS {
            let extents = self.device.extents(LdId(ld)).unwrap();
            let starts = extents.iter().flat_map(|it| it.span.start..it.span.end());
            for at in starts.filter(|at| at.is_multiple_of(BLOCK)) {
                let place = self.device.place(LdId(ld), at).expect("a host has it");
                let read = self.memory.get(&place.physical).copied().unwrap_or(0);
                if let Some(&before) = self.hosts.get(&(ld, at)) {
                    assert_eq!(read, before, "ld{ld} at {at}");
                }
                now.insert((ld, at), place.physical);
            }
        }
        for &physical in now.values() {
            self.written += 1;
            self.memory.insert(physical, self.written);
        }
        self.hosts = now
            .into_iter()
            .map(|(key, physical)| (key, self.memory[&physical]))
            .collect();
    }
}

fn one(at: u64) -> Span {
    Span::new(at, 1).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever is done, in whatever order: the invariants hold, what is refused changes nothing,
    /// and what a host keeps it keeps with its contents.
    #[test]
    fn memory_is_had_once_and_keeps_its_contents(
        acts in prop::collection::vec(some_act(), 1..80)
    ) {
        let mut pair = Pair {
            device: device(),
            memory: BTreeMap::new(),
            hosts: BTreeMap::new(),
            zeroing: Vec::new(),
            written: 0,
        };
        for act in &acts {
            pair.act(act);
            pair.compare();
        }
    }
}
