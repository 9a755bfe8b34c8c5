//! The end of a pool: all that its host has of a region goes back.
//!
//! What is offered is declined first, so that nobody waits for an answer that never comes. Then
//! what the list says is there is released, as it lies in the list, until the list has nothing: the
//! manager may take some of it meanwhile, which has a release refused and the list read anew.

use fabric_emu::cci::dcd::{GetDcConfigRequest, GetDcExtentListRequest};
use fabric_emu::cci::{DpaExtent, Request, Response};
use fabric_emu::span::Span;
use pool_core::Bytes;

use super::offers::{NOTHING, list_of};
use super::region::piece_of;
use super::{EXTENTS_AT_ONCE, GIVEN_AT_ONCE, LISTED_MAX, OFFERED_MAX, Region, Unanswered};

/// How often a list is read and what it has is released.
const TRIES: u32 = 16;

/// Gives back all that the host has of a region, by what is asked at the device's mailbox: how much
/// that was. Nobody may have any of it in use.
///
/// # Errors
/// Where the device does not answer, or goes on refusing: the host has some of it still.
pub(crate) fn give_all_back(
    region: u8,
    mut ask: impl FnMut(&Request) -> Result<Response, Unanswered>,
) -> Result<Bytes, Unanswered> {
    let regions = Request::GetDcConfig(GetDcConfigRequest {
        region_count: 8,
        starting_region_index: 0,
    });
    let region = match ask(&regions)? {
        Response::GetDcConfig(found) => Region::of(&found, region),
        _ => return Err(Unanswered::Unreached),
    };
    let Some(region) = region else {
        return Ok(Bytes::ZERO); // Nothing was ever taken of it.
    };
    for _ in 0..OFFERED_MAX {
        match ask(&Request::AddDcResponse(NOTHING)) {
            Ok(_) => {}
            Err(Unanswered::Refused(_)) => break, // Nothing is offered.
            Err(silent) => return Err(silent),
        }
    }
    let (mut given, mut refused) = (0_u64, Unanswered::Unreached);
    for _ in 0..TRIES {
        let (there, _) = listed(&mut ask)?;
        let all = there.iter().map(piece_of);
        let ours: Vec<Span> = all.filter(|it| region.covers(*it)).collect();
        if ours.is_empty() {
            return Ok(Bytes::new(given));
        }
        for some in ours.chunks(GIVEN_AT_ONCE) {
            match ask(&Request::ReleaseDc(list_of(some.iter().copied()))) {
                Ok(_) => given += some.iter().map(|it| it.bytes).sum::<u64>(),
                Err(Unanswered::Unreached) => return Err(Unanswered::Unreached),
                Err(code) => {
                    refused = code;
                    break;
                }
            }
        }
    }
    Err(refused)
}

/// What is there, as much of it as was read before the list was another one; and whether that is
/// all.
fn listed(
    ask: &mut impl FnMut(&Request) -> Result<Response, Unanswered>,
) -> Result<(Vec<DpaExtent>, bool), Unanswered> {
    let (mut there, mut generation) = (Vec::new(), None);
    loop {
        let next = u32::try_from(there.len()).unwrap_or(u32::MAX);
        let Response::GetDcExtentList(part) =
            ask(&Request::GetDcExtentList(GetDcExtentListRequest {
                extent_count: EXTENTS_AT_ONCE,
                starting_extent_index: next,
            }))?
        else {
            return Err(Unanswered::Unreached);
        };
        let now = part.extent_list_generation;
        if *generation.get_or_insert(now) != now || there.len() >= LISTED_MAX {
            return Ok((there, false));
        }
        let is_last = part.extents.is_empty();
        there.extend(part.extents.iter().cloned());
        if is_last || there.len() >= part.total_extent_count as usize {
            return Ok((there, true));
        }
    }
}
