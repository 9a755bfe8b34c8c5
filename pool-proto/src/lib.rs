//! The messages of Tierpool, generated from `proto/`: no logic lives here.
//!
//! [`session`] travels over the session socket, [`admin`] over gRPC, [`journal`] lies in the
//! daemon's store, and [`common`] is what they share. The `.proto` files are the documentation.
//! The gRPC client and server of [`admin`] come with feature `grpc`; without it nothing here needs
//! a runtime. Feature `serde` makes what operators see serializable.

#![forbid(unsafe_code)]
#![expect(
    clippy::allow_attributes,
    reason = "not every package trips every lint"
)]

pub mod names;

/// Generated code of one package: its documentation stands in the `.proto` file.
macro_rules! package {
    ($(#[$doc:meta])* $name:ident, $package:literal) => {
        $(#[$doc])*
        pub mod $name {
            #[allow(missing_docs, unreachable_pub, reason = "generated")]
            #[allow(clippy::all, clippy::pedantic, reason = "generated")]
            pub mod v1 {
                include!(concat!(env!("OUT_DIR"), "/", $package, ".rs"));
            }
        }
    };
}

package!(
    /// Shared by the other packages.
    common, "tierpool.common.v1"
);
package!(
    /// Requests, replies and events of one client.
    session, "tierpool.session.v1"
);
package!(
    /// The operators' gRPC service.
    admin, "tierpool.admin.v1"
);
package!(
    /// What the daemon keeps between its lives.
    journal, "tierpool.journal.v1"
);

/// The descriptors of every package, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
