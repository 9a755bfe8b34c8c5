//! Memory of two tiers, at an address that is the same in every process.
//!
//! Start `pool-daemon run`, then this program, then this program again in another terminal with the
//! argument `read`: it finds the same bytes at the same address.

use client_sdk::{Access, AttachOptions, Bytes, Create, Pool};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = Pool::attach(&AttachOptions::new().name("hello"))?;
    if std::env::args().nth(1).as_deref() == Some("read") {
        let greeting = pool.open("greeting", Access::ReadOnly)?;
        let mut text = [0; 16];
        greeting
            .view::<u8>(Bytes::ZERO, text.len())?
            .read_into(0, &mut text)?;
        println!("{} at {}", String::from_utf8_lossy(&text), greeting.addr());
        return Ok(());
    }
    let greeting = pool.create(&Create::new("ddr", Bytes::new(4096)).name("greeting"))?;
    let scratch = pool.create(&Create::new("hbm", Bytes::new(64 << 20)))?;
    greeting
        .view_mut::<u8>(Bytes::ZERO, 16)?
        .write_from(0, b"hello, neighbour")?;
    println!("{} of ddr at {}", greeting.bytes(), greeting.addr());
    println!(
        "{} of hbm at {}; press Enter to give both back",
        scratch.bytes(),
        scratch.addr()
    );
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}
