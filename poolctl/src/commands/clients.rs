//! `poolctl clients`: the attached processes.

use pool_proto::admin::v1::{Client, ListClientsReply, ListClientsRequest};

use crate::connect::Pool;
use crate::error::CtlError;
use crate::output::{Grid, Output};
use crate::text;

pub(super) async fn run(pool: &mut Pool, output: &mut Output) -> Result<(), CtlError> {
    let clients = get(pool).await?;
    output.show(&clients, |reply| render(&reply.clients))
}

pub(super) async fn get(pool: &mut Pool) -> Result<ListClientsReply, CtlError> {
    let response = pool.calls.list_clients(ListClientsRequest {}).await;
    pool.answer(response)
}

pub(super) fn render(clients: &[Client]) -> String {
    let mut grid = Grid::new([
        ">CLIENT",
        "NAME",
        "TENANT",
        ">PROCESS",
        ">USER",
        "STATE",
        ">SEGMENTS",
        ">HOLDS",
        ">REQUESTS",
    ]);
    for client in clients {
        grid.row([
            client.client_id.to_string(),
            text::or_dash(&client.name),
            text::plain(&client.tenant),
            client.pid.to_string(),
            client.uid.to_string(),
            text::plain(&client.state),
            client.segments.to_string(),
            text::size(client.held_bytes),
            client.requests_total.to_string(),
        ]);
    }
    grid.render()
}
