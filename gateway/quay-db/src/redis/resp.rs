//! Redis's protocol, version 2: writes commands and parses replies. Pure.

/// The most bytes of one reply. The commands that the gateway sends have short replies.
pub(super) const REPLY_MAX: usize = 64 * 1024;

/// How deep lists may nest.
const DEPTH_MAX: usize = 4;

/// A reply of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// A status, such as `OK`.
    Simple(String),
    /// An error, such as `WRONGPASS …`.
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    List(Vec<Reply>),
    /// No value: there is no such key, or a blocking command timed out.
    Nil,
}

/// The bytes are not a valid reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The bytes of a command with its arguments.
pub(super) fn command(arguments: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// The first reply in these bytes, and how many bytes it has. `None` if it is incomplete.
///
/// # Errors
/// The bytes are not a valid reply, or the reply is larger than [`REPLY_MAX`].
pub(super) fn reply(bytes: &[u8]) -> Result<Option<(Reply, usize)>, Malformed> {
    nested(bytes, 0)
}

fn nested(bytes: &[u8], depth: usize) -> Result<Option<(Reply, usize)>, Malformed> {
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() > REPLY_MAX { Err(Malformed) } else { Ok(None) };
    };
    let (kind, line) = bytes[..end].split_first().ok_or(Malformed)?;
    let line = std::str::from_utf8(line).map_err(|_| Malformed)?;
    let after = end + 2;
    let whole = |reply| Ok(Some((reply, after)));
    match kind {
        b'+' => whole(Reply::Simple(line.to_owned())),
        b'-' => whole(Reply::Error(line.to_owned())),
        b':' => whole(Reply::Integer(line.parse().map_err(|_| Malformed)?)),
        b'$' | b'*' if line == "-1" => whole(Reply::Nil),
        b'$' => {
            let length = length(line)?;
            let Some(rest) = bytes[after..].get(..length + 2) else { return Ok(None) };
            let value = rest.strip_suffix(b"\r\n").ok_or(Malformed)?;
            Ok(Some((Reply::Bulk(value.to_vec()), after + length + 2)))
        }
        b'*' if depth < DEPTH_MAX => {
            let (mut list, mut taken) = (Vec::new(), after);
            for _ in 0..length(line)? {
                let Some((reply, bytes)) = nested(&bytes[taken..], depth + 1)? else { return Ok(None) };
                list.push(reply);
                taken += bytes;
            }
            Ok(Some((Reply::List(list), taken)))
        }
        _ => Err(Malformed),
    }
}

fn length(line: &str) -> Result<usize, Malformed> {
    line.parse().ok().filter(|length| *length <= REPLY_MAX).ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn replies_are_read_whole_or_not_at_all() {
        let list = b"*2\r\n$3\r\na\r\n\r\n:-7\r\n+next\r\n";
        let expected = Reply::List(vec![Reply::Bulk(b"a\r\n".to_vec()), Reply::Integer(-7)]);
        assert_eq!(reply(list), Ok(Some((expected, list.len() - 7))));
        for cut in 0..list.len() - 7 {
            assert_eq!(reply(&list[..cut]), Ok(None), "{cut}");
        }
        assert_eq!(reply(b"$-1\r\n"), Ok(Some((Reply::Nil, 5))));
        assert_eq!(reply(b"*-1\r\n"), Ok(Some((Reply::Nil, 5))));
        assert_eq!(reply(b"-WRONGPASS no\r\n"), Ok(Some((Reply::Error("WRONGPASS no".into()), 15))));
        for wrong in [
            "\r\n",
            "HTTP/1.1 400\r\n",
            ":x\r\n",
            "$-2\r\n",
            "$99999999\r\n",
            "*9\r\n*9\r\n*9\r\n*9\r\n*9\r\n",
        ] {
            assert_eq!(reply(wrong.as_bytes()), Err(Malformed), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_command_is_a_list_of_texts(arguments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..5)) {
            let given: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
            let bytes = command(&given);
            let expected = Reply::List(arguments.iter().cloned().map(Reply::Bulk).collect());
            prop_assert_eq!(reply(&bytes), Ok(Some((expected, bytes.len()))));
        }

        #[test]
        fn nothing_a_server_says_breaks_it(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(Some((_, taken))) = reply(&bytes) {
                prop_assert!(taken <= bytes.len());
            }
        }
    }
}
