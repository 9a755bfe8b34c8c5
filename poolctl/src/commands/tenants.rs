//! `poolctl tenants`: the tenants, a line for each tier they have a part of.

use pool_proto::admin::v1::{ListTenantsReply, ListTenantsRequest};

use crate::connect::Pool;
use crate::error::CtlError;
use crate::output::{Grid, Output};
use crate::text;

pub(super) async fn run(pool: &mut Pool, output: &mut Output) -> Result<(), CtlError> {
    let response = pool.calls.list_tenants(ListTenantsRequest {}).await;
    let tenants = pool.answer(response)?;
    output.show(&tenants, render)
}

fn render(reply: &ListTenantsReply) -> String {
    let mut grid = Grid::new([
        "TENANT",
        ">CLIENTS",
        ">SEGMENTS",
        "TIER",
        ">USED",
        ">OF IT BURST",
        ">GUARANTEED",
        ">LIMIT",
        ">QUARANTINE",
    ]);
    for tenant in &reply.tenants {
        let name = text::plain(&tenant.name);
        let (clients, segments) = (tenant.clients.to_string(), tenant.segments.to_string());
        if tenant.tiers.is_empty() {
            let [tier, used, burst, request, limit, quarantine] = [(); 6].map(|()| "-".to_owned());
            grid.row([
                name, clients, segments, tier, used, burst, request, limit, quarantine,
            ]);
            continue;
        }
        for tier in &tenant.tiers {
            grid.row([
                name.clone(),
                clients.clone(),
                segments.clone(),
                text::plain(&tier.tier),
                text::size(tier.used_bytes),
                text::size(tier.burst_bytes),
                text::size(tier.request_bytes),
                text::size(tier.limit_bytes),
                text::size(tier.quarantined_bytes),
            ]);
        }
    }
    let tiers = reply.tenants.iter().flat_map(|tenant| &tenant.tiers);
    let quarantined = tiers.map(|tier| tier.quarantined_bytes).sum();
    grid.render() + text::whom_quarantine_waits_for(quarantined)
}
