//! Rows as the bytes that lie in a store, and back.
//!
//! A row is its protobuf message. What comes back from a store is checked before it is believed: it
//! decodes, it names the id it lies under, and the format of the pool's row is ours.

use pool_proto::journal::v1 as row;
use prost::Message;

use super::{FORMAT, JournalError, POOL_KEY, Record, Rows, Table};

impl Record {
    /// The table and the key of the row that this changes.
    #[must_use]
    pub fn place(&self) -> (Table, u64) {
        match self {
            Self::Pool(row) => row.place(),
            Self::Device(row) => row.place(),
            Self::Tenant(row) => row.place(),
            Self::Client(row) => row.place(),
            Self::Segment(row) => row.place(),
            Self::Backing(row) => row.place(),
            Self::Delete(table, key) => (*table, *key),
        }
    }

    /// The bytes that are now under [`Self::place`], or `None` where the row is no more.
    pub(super) fn value(&self) -> Option<Vec<u8>> {
        match self {
            Self::Pool(row) => Some(row.encode_to_vec()),
            Self::Device(row) => Some(row.encode_to_vec()),
            Self::Tenant(row) => Some(row.encode_to_vec()),
            Self::Client(row) => Some(row.encode_to_vec()),
            Self::Segment(row) => Some(row.encode_to_vec()),
            Self::Backing(row) => Some(row.encode_to_vec()),
            Self::Delete(..) => None,
        }
    }
}

impl Rows {
    /// Takes up the row that lies in `table` under `key`. Keys come in rising order, and the pool's
    /// row comes first.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] or [`JournalError::Format`]; the rows are then of no use.
    pub(super) fn take(
        &mut self,
        table: Table,
        key: u64,
        value: &[u8],
    ) -> Result<(), JournalError> {
        match table {
            Table::Pool => {
                let pool: row::PoolRow = decode(key, value)?;
                if pool.format != FORMAT {
                    return Err(JournalError::Format {
                        found: pool.format,
                        supported: FORMAT,
                    });
                }
                self.pool = Some(pool);
            }
            Table::Devices => self.devices.push(decode(key, value)?),
            Table::Tenants => self.tenants.push(decode(key, value)?),
            Table::Clients => self.clients.push(decode(key, value)?),
            Table::Segments => self.segments.push(decode(key, value)?),
            Table::Backings => self.backings.push(decode(key, value)?),
        }
        Ok(())
    }
}

fn decode<R: Row>(key: u64, value: &[u8]) -> Result<R, JournalError> {
    let damaged = |reason| JournalError::Damaged {
        table: R::TABLE,
        key,
        reason,
    };
    let row = R::decode(value).map_err(|error| damaged(error.to_string()))?;
    match row.key() {
        named if named == key => Ok(row),
        named => Err(damaged(format!("it names itself {named}"))),
    }
}

/// A kind of row: where it lies.
trait Row: Message + Default {
    const TABLE: Table;

    fn key(&self) -> u64;

    fn place(&self) -> (Table, u64) {
        (Self::TABLE, self.key())
    }
}

impl Row for row::PoolRow {
    const TABLE: Table = Table::Pool;

    fn key(&self) -> u64 {
        POOL_KEY
    }
}

macro_rules! row {
    ($row:ty, $table:ident, $id:ident) => {
        impl Row for $row {
            const TABLE: Table = Table::$table;

            fn key(&self) -> u64 {
                self.$id.into()
            }
        }
    };
}

row!(row::DeviceRow, Devices, device_id);
row!(row::TenantRow, Tenants, tenant_id);
row!(row::ClientRow, Clients, client_id);
row!(row::SegmentRow, Segments, segment_id);
row!(row::BackingRow, Backings, backing_id);

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(record: &Record) -> Result<Rows, JournalError> {
        let (table, key) = record.place();
        let mut rows = Rows::default();
        rows.take(table, key, &record.value().unwrap())
            .map(|()| rows)
    }

    #[test]
    fn a_row_comes_back_as_it_was() {
        let tenant = row::TenantRow {
            tenant_id: 7,
            name: "vision".into(),
        };
        let rows = taken(&Record::Tenant(tenant.clone())).unwrap();
        assert_eq!(
            rows,
            Rows {
                tenants: vec![tenant],
                ..Rows::default()
            }
        );
    }

    #[test]
    fn a_row_under_a_foreign_key_is_damaged() {
        let record = Record::Tenant(row::TenantRow {
            tenant_id: 7,
            name: "vision".into(),
        });
        let error = Rows::default()
            .take(Table::Tenants, 8, &record.value().unwrap())
            .unwrap_err();
        assert!(matches!(
            error,
            JournalError::Damaged {
                table: Table::Tenants,
                key: 8,
                ..
            }
        ));
    }

    #[test]
    fn bytes_that_are_no_row_are_damaged() {
        let error = Rows::default()
            .take(Table::Segments, 1, &[0xff])
            .unwrap_err();
        assert!(matches!(
            error,
            JournalError::Damaged {
                table: Table::Segments,
                key: 1,
                ..
            }
        ));
    }

    #[test]
    fn another_format_is_refused_by_its_number() {
        for found in [0, FORMAT + 1, u32::MAX] {
            let record = Record::Pool(row::PoolRow {
                format: found,
                ..Default::default()
            });
            let error = taken(&record).unwrap_err();
            assert!(
                matches!(error, JournalError::Format { found: f, supported: FORMAT } if f == found)
            );
        }
    }

    #[test]
    fn a_second_row_of_the_pool_is_damaged() {
        let record = Record::Pool(row::PoolRow {
            format: FORMAT,
            ..Default::default()
        });
        let error = Rows::default()
            .take(Table::Pool, 2, &record.value().unwrap())
            .unwrap_err();
        assert!(matches!(
            error,
            JournalError::Damaged {
                table: Table::Pool,
                key: 2,
                ..
            }
        ));
    }
}
