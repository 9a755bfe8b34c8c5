//! `[daemon]`.

use std::path::{Path, PathBuf};

use pool_core::Nanos;

use super::super::reader::{Item, Section};
use super::super::{ConfigError, Daemon, DescriptorStoreChoice, LogFormat, OnStop};
use super::{ids, path, set, size};

/// The longest path of a Unix socket: what `sockaddr_un` holds, less its final zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// Room in that for the name of a socket in the runtime directory.
const SOCKET_NAME_BYTES: usize = 27;
const DIRECTORY_BYTES_MAX: usize = SOCKET_PATH_BYTES_MAX - SOCKET_NAME_BYTES;
/// The session socket is made under a name that is longer: see `sys::socket::listen_at`.
const SESSION_PATH_BYTES_MAX: usize = SOCKET_PATH_BYTES_MAX - ".new".len();
const REATTACH_GRACE_MS_MAX: u64 = 3_600_000;
const PRESSURE_DEADLINE_MS_MAX: u64 = 600_000;

pub(super) fn daemon(section: Option<Section<'_>>) -> Result<Daemon, ConfigError> {
    let default = Daemon::of_the_system();
    let Some(mut section) = section else {
        return Ok(default);
    };
    let mut directory = |key, default: PathBuf| -> Result<_, ConfigError> {
        Ok(path(&mut section, key, DIRECTORY_BYTES_MAX)?.map_or(default, |path| path.value))
    };
    let runtime_dir = directory("runtime_dir", default.runtime_dir)?;
    let state_dir = directory("state_dir", default.state_dir)?;
    let mut daemon = Daemon::under(runtime_dir, state_dir);
    sockets(&mut section, &mut daemon)?;
    choices(&mut section, &mut daemon)?;
    let grace = section.number("reattach_grace_ms", 0..=REATTACH_GRACE_MS_MAX)?;
    set(&mut daemon.reattach_grace, grace.map(in_millis));
    let deadline = section.number("pressure_deadline_ms", 1..=PRESSURE_DEADLINE_MS_MAX)?;
    set(&mut daemon.pressure_deadline, deadline.map(in_millis));
    let floor = size(
        &mut section,
        "memory_floor",
        "an amount as \"1 GiB\"",
        |_| true,
    )?;
    set(&mut daemon.memory_floor, floor);
    set(&mut daemon.operators, ids(&mut section, "operators")?);
    section.finish()?;
    Ok(daemon)
}

fn sockets(section: &mut Section<'_>, daemon: &mut Daemon) -> Result<(), ConfigError> {
    let session = path(section, "session_socket", SESSION_PATH_BYTES_MAX)?;
    let admin = path(section, "admin_socket", SOCKET_PATH_BYTES_MAX)?;
    let taken = ["metrics.sock", "keeper.sock"].map(|name| daemon.runtime_dir.join(name));
    let other = |socket: Option<Item<PathBuf>>, than: &Path, allowed: &str| {
        let free = |socket: PathBuf| {
            let free = socket != than && !taken.contains(&socket);
            free.then_some(socket)
        };
        socket
            .map(|socket| socket.convert(allowed, free))
            .transpose()
    };
    // Of two that are the same, the one that was written last is at fault.
    let default = daemon.admin_socket.clone();
    let of_operators = if admin.is_none() {
        default.as_path()
    } else {
        Path::new("")
    };
    let allowed = "another path than those of the daemon's other sockets";
    set(
        &mut daemon.session_socket,
        other(session, of_operators, allowed)?,
    );
    let allowed = "another path than daemon.session_socket and the daemon's other sockets";
    let of_clients = daemon.session_socket.clone();
    set(
        &mut daemon.admin_socket,
        other(admin, &of_clients, allowed)?,
    );
    set(&mut daemon.session_mode, session_mode(section)?);
    Ok(())
}

fn choices(section: &mut Section<'_>, daemon: &mut Daemon) -> Result<(), ConfigError> {
    let stores = [
        ("auto", DescriptorStoreChoice::Auto),
        ("systemd", DescriptorStoreChoice::Systemd),
        ("keeper", DescriptorStoreChoice::Keeper),
        ("clients", DescriptorStoreChoice::Clients),
    ];
    set(
        &mut daemon.descriptor_store,
        section.word("descriptor_store", &stores)?,
    );
    let stops = [("keep", OnStop::Keep), ("release", OnStop::Release)];
    set(&mut daemon.on_stop, section.word("on_stop", &stops)?);
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    set(
        &mut daemon.log_format,
        section.word("log_format", &formats)?,
    );
    set(&mut daemon.log, log(section)?);
    Ok(())
}

fn session_mode(section: &mut Section<'_>) -> Result<Option<Item<u32>>, ConfigError> {
    let allowed = "an octal mode from \"0600\" to \"0666\" without execution, as \"0660\"";
    let mode = |text: String| {
        let mode = u32::from_str_radix(&text, 8).ok()?;
        (mode & !0o666 == 0 && mode & 0o600 == 0o600).then_some(mode)
    };
    section
        .text("session_mode", allowed)?
        .map(|text| text.convert(allowed, mode))
        .transpose()
}

fn log(section: &mut Section<'_>) -> Result<Option<Item<String>>, ConfigError> {
    let allowed = "one of off, error, warn, info, debug, trace, or several by module as \
                   \"warn,pool_daemon::engine=debug\"";
    let parse = |text: String| text.split(',').all(is_directive).then_some(text);
    section
        .text("log", allowed)?
        .map(|text| text.convert(allowed, parse))
        .transpose()
}

/// Whether `text` is a level, or a module and its level.
fn is_directive(text: &str) -> bool {
    let (module, level) = text.split_once('=').unwrap_or(("pool_daemon", text));
    let part_of_a_path = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':';
    !module.is_empty()
        && module.bytes().all(part_of_a_path)
        && ["off", "error", "warn", "info", "debug", "trace"].contains(&level)
}

fn in_millis(millis: Item<u64>) -> Item<Nanos> {
    Item {
        value: Nanos::from_millis(millis.value),
        written: millis.written,
    }
}
