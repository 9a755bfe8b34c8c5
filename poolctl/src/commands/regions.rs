//! `poolctl regions`: regions of CXL memory, and making and destroying one.

use pool_core::Bytes;
use pool_proto::admin::v1::{CreateRegionRequest, DestroyRegionRequest, Region, Topology};
use serde::Serialize;
use serde_json::json;

use super::tree;
use crate::cli::RegionChange;
use crate::connect::Pool;
use crate::error::CtlError;
use crate::output::{Grid, Output};
use crate::text;

/// What is listed: regions, and what was taken for none.
#[derive(Debug, Serialize)]
struct Listed {
    regions: Vec<Region>,
    strays: Vec<Stray>,
    /// The kernel has a CXL bus.
    #[serde(skip)]
    has_cxl: bool,
}

/// A decoder that has taken memory of its device for no region.
#[derive(Debug, Serialize)]
struct Stray {
    decoder: String,
    bytes: u64,
}

pub(super) async fn list(pool: &mut Pool, output: &mut Output) -> Result<(), CtlError> {
    let listed = Listed::of(tree::get(pool).await?);
    output.show(&listed, Listed::render)
}

pub(super) async fn change(
    pool: &mut Pool,
    output: &mut Output,
    change: RegionChange,
) -> Result<(), CtlError> {
    match change {
        RegionChange::Create {
            serials,
            size,
            granularity,
        } => {
            let request = CreateRegionRequest {
                serials,
                bytes: size.map_or(0, Bytes::get),
                granularity_bytes: granularity.unwrap_or(0),
            };
            let response = pool.calls.create_region(request).await;
            let region = pool.answer(response)?;
            output.show(&region, |region| render(std::slice::from_ref(region)))
        }
        RegionChange::Destroy { name } => {
            let request = DestroyRegionRequest { name: name.clone() };
            let response = pool.calls.destroy_region(request).await;
            pool.answer(response)?;
            let destroyed = json!({ "destroyed": name });
            output.show(&destroyed, |_| {
                format!("{} is destroyed\n", text::plain(&name))
            })
        }
    }
}

impl Listed {
    fn of(topology: Topology) -> Self {
        let strays = topology.decoders.into_iter().filter(|it| it.stray);
        let stray = |it: pool_proto::admin::v1::Decoder| Stray {
            decoder: it.name,
            bytes: it.dpa_bytes,
        };
        Self {
            strays: strays.map(stray).collect(),
            regions: topology.regions,
            has_cxl: topology.has_cxl,
        }
    }

    fn render(&self) -> String {
        if !self.has_cxl {
            return "this kernel shows no CXL bus: there are no regions\n".to_owned();
        }
        let mut page = render(&self.regions);
        for stray in &self.strays {
            let (name, size) = (text::plain(&stray.decoder), text::size(stray.bytes));
            page += &format!(
                "{name} has taken {size} for no region: destroy the one that is half made, or \
                 {name} where there is none\n"
            );
        }
        page
    }
}

fn render(regions: &[Region]) -> String {
    let mut grid = Grid::new([
        "REGION", ">SIZE", "STATE", "SERIALS", "DAX", "DRIVER", ">NODE", "DEVICE",
    ]);
    for region in regions {
        let files = || region.dax.iter().flat_map(|cut| &cut.devices);
        let total = region.dax.as_ref().map_or(0, |cut| cut.devices_total);
        let node = files().find_map(|it| it.target_node);
        let (dax, driver) = match (files().next(), total) {
            (Some(device), 1) => (text::plain(&device.name), tree::driver(device)),
            (Some(_), more) => (format!("{more} devices"), "-".to_owned()),
            (None, _) => ("-".to_owned(), "-".to_owned()),
        };
        grid.row([
            text::plain(&region.name),
            text::size(region.bytes),
            tree::state(region).to_owned(),
            text::or_dash(&text::serials(region.targets.iter().map(|it| it.serial))),
            dax,
            driver,
            node.map_or_else(|| "-".to_owned(), |node| node.to_string()),
            text::or_dash(&region.pool_device),
        ]);
    }
    grid.render()
}
