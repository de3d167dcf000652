//! Sample messages for the criterion benches.

/// Returns a message like those of mailing lists and web mailers: 20 fields, some folded, then lines of text up to `size`
/// bytes, with CRLF line ends and no line that begins with a dot.
#[must_use]
pub fn message(size: usize) -> Vec<u8> {
    let mut content = HEADER_SECTION.replace('\n', "\r\n").into_bytes();
    while content.len() < size {
        let line = TEXT_LINE.get(..(size - content.len()).min(TEXT_LINE.len())).unwrap_or_default();
        content.extend_from_slice(line);
        content.extend_from_slice(b"\r\n");
    }
    content
}

/// Returns what a client sends after 354: the message and the end of data.
#[must_use]
pub fn data(size: usize) -> Vec<u8> {
    let mut octets = message(size);
    octets.extend_from_slice(b".\r\n");
    octets
}

const TEXT_LINE: &[u8] = b"Lines of prose like this one make up most of most messages' octets.....";

const HEADER_SECTION: &str = "\
Return-Path: <announce-bounces+4711@lists.example.net>
Received: from out7.lists.example.net (out7.lists.example.net [192.0.2.77])
\tby relay.example.org (Postfix) with ESMTPS id 4Wv0c85Xy2zB
\tfor <alice@example.com>; Tue, 24 Nov 2026 08:00:01 +0000 (UTC)
Received: from app-03.internal (unknown [198.51.100.23])
\tby out7.lists.example.net (Postfix) with ESMTP id 4Wv0c73mNqzD
\tfor <alice@example.com>; Tue, 24 Nov 2026 08:00:00 +0000 (UTC)
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=lists.example.net;
\ts=m2026; t=1795507200; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;
\th=From:To:Subject:Date:Message-ID:List-Id:List-Unsubscribe;
\tb=dzdVyOfAKCdLXdJOc9G2q8LoXSlEniSbav+yuU4zGeeruD00lszZVoG4ZHRNiYzR
\t l0e3wFh2ohGlnrk0ytDYP2BDmIrPcX1hYIxXd3yhTcBi2aq8kV0pE0hXy5sB0Z5n
Date: Tue, 24 Nov 2026 08:00:00 +0000
From: The Announcements List <announce@lists.example.net>
Reply-To: Discussion <discuss@lists.example.net>
To: Alice Example <alice@example.com>
Cc: Bob Example <bob@example.com>, \"Carol, Example\" <carol@example.com>
Subject: =?utf-8?q?Release_3=2E2=2E1_is_out=2C_with_a_long_list_of_changes?=
 and some more of the subject on a second line
Message-ID: <20261124080000.4711.announce@lists.example.net>
In-Reply-To: <20261123120000.4700.announce@lists.example.net>
References: <20261122110000.4690.announce@lists.example.net>
 <20261123120000.4700.announce@lists.example.net>
MIME-Version: 1.0
Content-Type: text/plain; charset=\"utf-8\"; format=flowed
Content-Transfer-Encoding: 8bit
List-Id: Announcements <announce.lists.example.net>
List-Unsubscribe: <https://lists.example.net/unsubscribe/4711>
X-Mailer: Example Lists 5.1
X-Spam-Status: No, score=-2.1

";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_twenty_fields_and_its_size() {
        let text = String::from_utf8(message(4096)).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let fields = head.split("\r\n").filter(|line| !line.starts_with([' ', '\t'])).count();
        assert_eq!(fields, 20);
        assert!((4096..4100).contains(&text.len()), "{}", text.len());
        assert!(body.lines().all(|line| !line.starts_with('.') && !line.contains('\r')));
    }
}
