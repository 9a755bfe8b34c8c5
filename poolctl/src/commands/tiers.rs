//! `poolctl tiers`: the tiers, fastest first.

use pool_proto::admin::v1::{ListTiersReply, ListTiersRequest};

use crate::connect::Pool;
use crate::error::CtlError;
use crate::output::{Grid, Output};
use crate::text;

pub(super) async fn run(pool: &mut Pool, output: &mut Output) -> Result<(), CtlError> {
    let tiers = get(pool).await?;
    output.show(&tiers, render)
}

pub(super) async fn get(pool: &mut Pool) -> Result<ListTiersReply, CtlError> {
    let response = pool.calls.list_tiers(ListTiersRequest {}).await;
    pool.answer(response)
}

fn render(reply: &ListTiersReply) -> String {
    let mut grid = Grid::new(["TIER", ">SIZE", ">FREE", ">GRANTED", ">QUARANTINE"]);
    for tier in &reply.tiers {
        grid.row([
            text::with_medium(&tier.name, tier.emulated),
            text::size(tier.total_bytes),
            text::size(tier.free_bytes),
            text::size(tier.granted_bytes),
            text::size(tier.quarantined_bytes),
        ]);
    }
    grid.render()
}
