//! Memory of two tiers, at addresses that are the same in every process.

use client_sdk::{AttachOptions, Bytes, Create, Error, Pool};

fn main() -> Result<(), Error> {
    let pool = Pool::attach(&AttachOptions::new().wait_for_daemon(true))?;
    let weights = pool.create(&Create::new("hbm", Bytes::new(64 << 20)).name("weights"))?;
    let inputs = pool.create(&Create::new("ddr", Bytes::new(2 << 20)))?;
    weights.view_mut::<f32>(Bytes::ZERO, 16 << 20)?.fill(0.5)?;
    inputs.view_mut(Bytes::ZERO, 5)?.write_from(0, b"hello")?;
    println!("weights at {}, inputs at {}", weights.addr(), inputs.addr());
    Ok(())
}
