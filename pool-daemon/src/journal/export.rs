//! A journal as lines of JSON, for an operator who must look into it or move it by hand.
//!
//! One object a line, where `table` says of which kind, with the names and numbers of the messages
//! in `journal.proto`. Enumerations are their numbers. A session's token is a secret and is left
//! out.

use std::io::{self, Write};

use pool_proto::common::v1::{Coherence, ExtentRun};
use pool_proto::journal::v1::{
    BackingRow, ClientRow, DepartedRow, DeviceRow, EvictionRow, HolderRow, PoolRow, SegmentRow,
    ShareRow, TenantRow,
};
use serde_json::{Map, Value};

use super::{Rows, Table};

/// Writes all of `rows`, a line each, table by table in the order of their keys.
///
/// # Errors
/// Where `out` fails.
pub fn export(rows: &Rows, out: &mut impl Write) -> io::Result<()> {
    lines(Table::Pool, rows.pool.as_slice(), out)?;
    lines(Table::Devices, &rows.devices, out)?;
    lines(Table::Tenants, &rows.tenants, out)?;
    lines(Table::Clients, &rows.clients, out)?;
    lines(Table::Segments, &rows.segments, out)?;
    lines(Table::Backings, &rows.backings, out)?;
    out.flush()
}

fn lines<R: Fields>(table: Table, rows: &[R], out: &mut impl Write) -> io::Result<()> {
    for row in rows {
        let mut fields = row.fields();
        fields.insert("table".into(), table.name().into());
        writeln!(out, "{}", Value::Object(fields))?;
    }
    Ok(())
}

/// A message whose fields can be named one by one.
trait Fields {
    fn fields(&self) -> Map<String, Value>;
}

/// Each message is taken apart in full, so that a field added to it cannot be forgotten here.
macro_rules! fields {
    ($message:ident { $($field:ident),* } $(secret { $($secret:ident),* })?) => {
        impl Fields for $message {
            fn fields(&self) -> Map<String, Value> {
                let Self { $($field,)* $($($secret: _,)*)? } = self;
                let fields = [$((stringify!($field), $field.value())),*];
                fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
            }
        }
    };
}

fields!(PoolRow {
    format,
    boot_id,
    daemon_epoch,
    window_base,
    window_bytes,
    next_segment_id,
    next_backing_id,
    next_client_id,
    next_tenant_id,
    next_device_id,
    next_incarnation,
    pool_id
});
fields!(DeviceRow {
    device_id,
    name,
    tier,
    extents,
    retired,
    draining,
    configured_extents,
    removed
} secret { ending_tags });
fields!(TenantRow { tenant_id, name });
fields!(ClientRow {
    client_id, tenant_id, pid, started_ticks, uid, name, last_request_id, last_granted_segment_id
} secret { token });
fields!(SegmentRow {
    segment_id,
    tenant_id,
    name,
    tier,
    addr,
    bytes,
    capacity_bytes,
    incarnation,
    lifetime,
    burst,
    piece_bytes,
    backings,
    shares,
    holders,
    coherence,
    freed,
    departed,
    sealed,
    writers,
    eviction,
    joined
} secret { tag });
fields!(BackingRow {
    backing_id,
    device_id,
    runs,
    bytes,
    pages,
    file_device,
    file_inode,
    segment_id,
    charged_tenant_id
});
fields!(ShareRow {
    tenant_id,
    access,
    opened
});
fields!(HolderRow {
    client_id,
    access,
    slot
});
fields!(DepartedRow {
    slot,
    pid,
    started_ticks,
    evicted,
    tenant_id
});
fields!(EvictionRow { slots, ended });
fields!(Coherence {
    mode,
    unit_bytes,
    on_death,
    no_clean_write_backs,
    one_host,
    directory_bytes,
    recall_ms,
    checksums
});
fields!(ExtentRun { first, count });

/// What a field can hold.
trait Field {
    fn value(&self) -> Value;
}

macro_rules! plain {
    ($($kind:ty),*) => {$(
        impl Field for $kind {
            fn value(&self) -> Value {
                self.clone().into()
            }
        }
    )*};
}

plain!(bool, i32, u32, u64, String, Vec<u64>);

impl<M: Fields> Field for Option<M> {
    fn value(&self) -> Value {
        self.as_ref()
            .map_or(Value::Null, |message| Value::Object(message.fields()))
    }
}

impl<M: Fields> Field for Vec<M> {
    fn value(&self) -> Value {
        self.iter().map(M::fields).map(Value::Object).collect()
    }
}
