//! The short commands: list, define, start.
//!
//! Each is one or two calls. What needs patience has a module of its own: `stop`, `migrate`.

use std::io::Read as _;
use std::path::Path;

use ferry_client::{Connection, Uri};
use ferry_rpc::flags::{DefineFlags, ListFlags, StartFlags};
use ferry_rpc::proto::DomainRef;

use crate::failure::Failure;
use crate::host::{self, Standing};
use crate::say;

/// `ferry list`: those that run, by id; then, when asked for, the others by name.
pub(crate) async fn list(uri: &Uri, all: bool) -> Result<(), Failure> {
    let connection = host::open(uri).await?;
    let flags = if all { ListFlags::ACTIVE | ListFlags::INACTIVE } else { ListFlags::ACTIVE };
    let cannot = |error| Failure::refused("cannot list the guests", error);
    let mut domains = connection.domains(flags).await.map_err(cannot)?;
    domains.sort_by(|a, b| order(a).cmp(&order(b)));
    let mut rows = Vec::with_capacity(domains.len());
    for domain in domains {
        // A guest that ended meanwhile is not listed.
        if let Some(standing) = Standing::ask(&connection, &domain).await.map_err(cannot)? {
            rows.push(Row::new(&domain, &standing));
        }
    }
    say(table(&rows));
    close(connection).await;
    Ok(())
}

/// `ferry define`.
pub(crate) async fn define(uri: &Uri, file: &Path) -> Result<(), Failure> {
    let xml = read(file)?;
    let connection = host::open(uri).await?;
    let defined = connection.define(&xml, DefineFlags::NONE).await;
    let domain =
        defined.map_err(|error| Failure::refused(format!("cannot define {}", shown(file)), error))?;
    say(format_args!("'{}' is defined ({})", domain.name, domain.uuid));
    close(connection).await;
    Ok(())
}

/// `ferry start`.
pub(crate) async fn start(uri: &Uri, guest: &str) -> Result<(), Failure> {
    let connection = host::open(uri).await?;
    let domain = host::find(&connection, guest).await?;
    let started = connection.create(&domain, StartFlags::NONE).await;
    let domain =
        started.map_err(|error| Failure::failed(format!("cannot start '{}'", domain.name), error))?;
    say(format_args!("'{}' runs with id {}", domain.name, domain.id));
    close(connection).await;
    Ok(())
}

/// The whole file, or standard input for `-`.
pub(crate) fn read(file: &Path) -> Result<String, Failure> {
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    text.map_err(|error| Failure::refused(format!("cannot read {}", shown(file)), error.to_string()))
}

/// Closes a connection whose work is done; how that goes changes nothing.
pub(crate) async fn close(connection: Connection) {
    let _ = connection.close().await;
}

fn shown(file: &Path) -> String {
    if file == Path::new("-") { "standard input".to_owned() } else { format!("'{}'", file.display()) }
}

/// Guests that run come first.
fn order(domain: &DomainRef) -> (bool, i32, &str) {
    (domain.id < 0, domain.id, &domain.name)
}

struct Row {
    id: String,
    name: String,
    state: String,
}

impl Row {
    fn new(domain: &DomainRef, standing: &Standing) -> Self {
        let id = if domain.id < 0 { "-".to_owned() } else { domain.id.to_string() };
        Self { id, name: domain.name.clone(), state: standing.to_string() }
    }
}

/// Columns as wide as their longest cell.
fn table(rows: &[Row]) -> String {
    let header = Row { id: "ID".to_owned(), name: "NAME".to_owned(), state: "STATE".to_owned() };
    let rows: Vec<&Row> = std::iter::once(&header).chain(rows).collect();
    let width = |cell: fn(&Row) -> &str| rows.iter().map(|row| cell(row).chars().count()).max().unwrap_or(0);
    let (id, name) = (width(|row| &row.id), width(|row| &row.name));
    let lines: Vec<String> =
        rows.iter().map(|row| format!("{:id$}  {:name$}  {}", row.id, row.name, row.state)).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_rpc::values::DomainState;
    use uuid::Uuid;

    fn domain(name: &str, id: i32) -> DomainRef {
        DomainRef { name: name.to_owned(), uuid: Uuid::nil(), id }
    }

    #[test]
    fn the_table_is_aligned() {
        let row =
            |name, id, state, reason| Row::new(&domain(name, id), &Standing { state, reason, doubt: None });
        let rows = [row("guest1", 12, DomainState::RUNNING, 1), row("b", -1, DomainState::SHUTOFF, 4)];
        assert_eq!(
            table(&rows),
            "ID  NAME    STATE\n12  guest1  running (booted)\n-   b       shut off (migrated)"
        );
        assert_eq!(table(&[]), "ID  NAME  STATE");
    }

    #[test]
    fn guests_that_run_come_first() {
        let mut domains = [domain("b", -1), domain("z", 2), domain("a", -1), domain("y", 10)];
        domains.sort_by(|a, b| order(a).cmp(&order(b)));
        let names: Vec<&str> = domains.iter().map(|domain| domain.name.as_str()).collect();
        assert_eq!(names, ["z", "y", "a", "b"]);
    }
}
