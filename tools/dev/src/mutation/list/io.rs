//! Bugs in the seam to the kernel.

use crate::mutation::Check::Test;
use crate::mutation::Mutation;

pub(super) const BUGS: &[Mutation] = &[Mutation {
    name: "epoll-short-send",
    what: "with epoll, a send that a socket takes a part of begins anew",
    file: "engine/io/src/epoll/connections.rs",
    before: "                    send.sent += count;\n",
    after: "                    send.sent = count;\n",
    check: Test(&["-p", "mailrace-io", "--lib", "epoll"]),
}];
