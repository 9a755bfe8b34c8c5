//! Domains whose units have checksums: what the daemon does about them is to read them.

use pool_proto::common::v1::Coherence;
use pool_proto::session::v1::{self as session, request::Body};

use super::ask;
use super::plans::{ALPHA, plan};
use super::world::World;

#[test]
fn a_domain_with_checksums_is_recovered_only_once_all_of_it_is_there() {
    for checksums in [false, true] {
        let mut world = World::new(plan());
        let pid = world.attach(ALPHA);
        let create = ask::create_domain("d", 3);
        let coherence = create
            .coherence
            .map(|terms| Coherence { checksums, ..terms });
        let create = session::Create {
            coherence,
            ..create
        };
        let segment = world.granted(pid, Body::Create(create));
        assert_eq!(segment.coherence.unwrap().checksums, checksums);
        world.domains.recovered.clear();
        let directory = segment.pieces[0].backing_id;
        world.restart(|backing| backing.number() == directory);
        assert_eq!(world.domains.recovered.is_empty(), checksums);
        world.reattach(pid);
        let again = world.granted(pid, ask::refresh(segment.segment_id));
        assert_eq!(again.coherence, segment.coherence);
        let recovered = world.domains.recovered.last().unwrap();
        assert_eq!(recovered.checks, checksums);
    }
}
