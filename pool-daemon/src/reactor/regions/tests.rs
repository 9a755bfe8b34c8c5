//! The thread, over the files of a kernel with two expanders.

use std::fs;

use kernel_cxl::Sysfs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pool_core::Nanos;
use pool_core::clock::Deadline;
use pool_proto::admin::v1::CreateRegionRequest;
use tokio::sync::oneshot;

use super::*;
use crate::device::regions::tests::trees::{Line, TREE, lay, lines};
use crate::server::handle::Caller;

type Answered = oneshot::Receiver<Result<Answer, Error>>;

fn by_operator(query: Query) -> (Question, Answered) {
    let (answer, answered) = oneshot::channel();
    let caller = Caller {
        uid: 1234,
        gid: 1,
        operator: true,
    };
    let question = Question {
        caller,
        query,
        until: Deadline::NEVER,
        answer,
    };
    (question, answered)
}

fn ask(desk: &RegionDesk, query: Query) -> Answered {
    let (question, answered) = by_operator(query);
    desk.ask(question, Vec::new());
    answered
}

fn outcome(desk: &RegionDesk) -> Outcome {
    let mut polled = [PollFd::new(desk.event_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::NONE).unwrap();
    let mut outcomes = desk.take();
    assert_eq!(outcomes.len(), 1);
    outcomes.remove(0)
}

#[test]
fn a_change_comes_back_with_what_all_operators_are_told_and_a_look_is_answered_at_once() {
    let root = tempfile::tempdir().unwrap();
    let mut tree = lines(TREE);
    tree.retain(|it| !matches!(it, Line::Link(path, _) if path.ends_with("dax0.0/driver")));
    lay(root.path(), &tree);
    let window = root.path().join("sys/bus/cxl/devices/decoder0.0");
    fs::write(window.join("delete_region"), "").unwrap();
    let drivers = root.path().join("sys/bus/cxl/drivers/cxl_region");
    fs::create_dir_all(&drivers).unwrap();
    fs::write(drivers.join("unbind"), "").unwrap();
    let regions = Regions::new(Sysfs::at(root.path()), Default::default());
    let desk = RegionDesk::start(regions).unwrap();

    let looked = ask(&desk, Query::Topology).blocking_recv().unwrap();
    let Ok(Answer::Topology(topology)) = looked else {
        panic!("{looked:?}");
    };
    assert_eq!(topology.regions.len(), 2);

    let answered = ask(&desk, Query::DestroyRegion("region0".to_owned()));
    let Outcome { question, result } = outcome(&desk);
    let (answer, news) = result.unwrap();
    assert_eq!(
        (news.kind, news.bytes.get()),
        ("region-destroyed", 256 << 20)
    );
    assert_eq!(news.detail, "region0 on 0xa0, for user 1234");
    question.reply(Ok(answer));
    assert_eq!(
        answered.blocking_recv().unwrap(),
        Ok(Answer::RegionDestroyed)
    );

    let wanted = CreateRegionRequest::default();
    let _answered = ask(&desk, Query::CreateRegion(wanted));
    let refused = outcome(&desk).result.unwrap_err();
    assert_eq!(
        refused.reason(),
        ErrorReason::Malformed,
        "{}",
        refused.message
    );

    // Whoever waited here for too long is told so, and nothing was begun.
    let (mut late, _answered) = by_operator(Query::DestroyRegion("region1".to_owned()));
    late.until = Deadline::at(Nanos::ZERO);
    desk.ask(late, Vec::new());
    let refused = outcome(&desk).result.unwrap_err();
    assert_eq!(refused.reason(), ErrorReason::Busy, "{}", refused.message);

    // Whose asker has gone is not asked: the next outcome is that of the question after it.
    let (unheard, gone) = by_operator(Query::DestroyRegion("region1".to_owned()));
    drop(gone);
    desk.ask(unheard, Vec::new());
    let _answered = ask(&desk, Query::DestroyRegion("region9".to_owned()));
    let refused = outcome(&desk).result.unwrap_err();
    assert_eq!(
        refused.reason(),
        ErrorReason::NotFound,
        "{}",
        refused.message
    );
}
