//! Commands of the component command interface and of the fabric manager, as bytes.
