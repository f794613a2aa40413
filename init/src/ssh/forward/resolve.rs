//! Names to addresses for who forwards: hosts(5), then the name servers of resolv.conf(5). What is asked here
//! must end.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::super::monitor::messages::{Reply, Request};
use super::{Forwards, Open};
use crate::sys::{random, ready};
use crate::web::dns::{Answer, Kind, MAX_ANSWER, answer, question};

/// What a server may take to answer before the next is asked too.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often all servers are asked.
const ROUNDS: usize = 2;
/// Longest name in bytes.
const MAX_NAME: usize = 253;

/// The addresses of a host, in the order in which they are to be tried.
///
/// # Errors
/// Where there is no such name, and where no server answers.
pub(super) async fn resolve(forwards: &Forwards, host: &str, port: u16) -> io::Result<Vec<IpAddr>> {
    if host.len() > MAX_NAME {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no host name"));
    }
    let find = Request::Find { host: host.to_string(), port: u32::from(port) };
    let (Reply::Found { addresses, servers, search }, _) = forwards.ask(&find).await? else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let known: Vec<IpAddr> = addresses.0.iter().filter_map(|address| address.parse().ok()).collect();
    if !known.is_empty() {
        return Ok(known);
    }
    // RFC 6761 section 6.3: never asked of anybody.
    let lower = host.to_ascii_lowercase();
    if lower == "localhost" || lower.ends_with(".localhost") {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let servers: Vec<SocketAddr> = servers.0.iter().filter_map(|server| server.parse().ok()).collect();
    let mut names = Vec::new();
    if !host.contains('.') {
        names.extend(search.0.iter().map(|domain| format!("{host}.{}", domain.trim_start_matches('.'))));
    }
    names.push(host.to_string());
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "no such name");
    for name in &names {
        match ask(forwards, &servers, name).await {
            Ok(found) if !found.is_empty() => return Ok(found),
            Ok(_) => {}
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Asks one server after the other for both kinds of addresses; IPv6 is tried first when there are both.
async fn ask(forwards: &Forwards, servers: &[SocketAddr], name: &str) -> io::Result<Vec<IpAddr>> {
    if servers.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "/etc/resolv.conf names no server"));
    }
    for _ in 0..ROUNDS {
        for server in servers {
            // Another is asked when it cannot say, cannot be reached, or does not answer.
            let asked = async { ask_one(forwards.open(Open::Ask(*server)).await?.0, name).await };
            if let Ok(Ok(Some(found))) = tokio::time::timeout(PATIENCE, asked).await {
                return Ok(found);
            }
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "no name server answers"))
}

/// None when the server says that it cannot say.
async fn ask_one(socket: OwnedFd, name: &str) -> io::Result<Option<Vec<IpAddr>>> {
    let socket = ready::register(socket)?;
    let mut bytes = [0; 4];
    random::fill(&mut bytes)?;
    let [a, b, c, d] = bytes;
    let mut wanted = Vec::new();
    for (id, kind) in [(u16::from_be_bytes([a, b]), Kind::Aaaa), (u16::from_be_bytes([c, d]), Kind::A)] {
        let Some(question) = question(id, name, kind) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no host name"));
        };
        wanted.push((kind, question, None));
    }
    for (_, question, _) in &wanted {
        rustix::io::write(socket.get_ref(), question)?;
    }
    let mut buffer = vec![0; MAX_ANSWER];
    while wanted.iter().any(|(_, _, answer)| answer.is_none()) {
        let mut ready = socket.readable().await?;
        let Ok(read) = ready.try_io(|socket| Ok(rustix::io::read(socket, &mut *buffer)?)) else { continue };
        let message = buffer.get(..read?).unwrap_or_default();
        for (kind, question, found) in &mut wanted {
            if let Some(said) = answer(message, question, *kind) {
                *found = Some(said);
            }
        }
    }
    let mut addresses = Vec::new();
    for (_, _, found) in wanted {
        match found {
            Some(Answer::Addresses(more)) => addresses.extend(more),
            Some(Answer::NoName) => {}
            Some(Answer::Failed) | None => return Ok(None),
        }
    }
    Ok(Some(addresses))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_is_asked_for_both_kinds_and_strange_answers_are_passed_over() {
        let server = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        client.set_nonblocking(true).unwrap();
        let serving = async {
            for _ in 0..2 {
                let mut message = vec![0; 512];
                let (length, from) = server.recv_from(&mut message).await.unwrap();
                message.truncate(length - 11);
                let is_four = message[length - 14] == 1;
                (message[2], message[3], message[11]) = (0x81, 0x80, 0);
                server.send_to(b"strange", from).await.unwrap();
                let mut forged = message.clone();
                forged[0] ^= 1;
                server.send_to(&forged, from).await.unwrap();
                if is_four {
                    message[7] = 1;
                    message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 7]);
                }
                server.send_to(&message, from).await.unwrap();
            }
        };
        let (found, ()) = tokio::join!(ask_one(client.into(), "db.example"), serving);
        assert_eq!(found.unwrap(), Some(vec!["192.0.2.7".parse().unwrap()]));
    }
}
