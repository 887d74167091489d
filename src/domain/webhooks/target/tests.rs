//! A URL that leads where it must not, in whatever notation.

use super::*;

fn targets(config: WebhooksConfig) -> Targets {
    let find = |name: String| -> Finding {
        Box::pin(async move {
            match name.as_str() {
                "public.example" => Ok(vec![[203, 0, 113, 7].into()]),
                "private.example" => Ok(vec![[10, 0, 0, 7].into()]),
                "both.example" => Ok(vec![[203, 0, 113, 7].into(), [127, 0, 0, 1].into()]),
                "inside.example" => Ok(vec!["::1".parse().unwrap()]),
                "denied.example" => Err(Nowhere::Denied("network.egress denies it".into())),
                name => match name.trim_matches(['[', ']']).parse() {
                    Ok(address) => Ok(vec![address]),
                    Err(_) => Err(Nowhere::Unknown("no such name".into())),
                },
            }
        })
    };
    let is_own = |host: &str| ["zero.example", "192.168.7.7", "127.0.0.1"].contains(&host);
    Targets::new(config, Surroundings { find: Box::new(find), is_own: Box::new(is_own), port: 8443 })
}

async fn refusal(targets: &Targets, url: &str) -> String {
    match targets.check(url).await {
        Err(Error::Invalid(errors)) => errors.iter().map(ToString::to_string).collect(),
        Err(error) => panic!("{url}: {error}"),
        Ok(normal) => panic!("{url} is accepted as {normal}"),
    }
}

#[tokio::test]
async fn forbidden_addresses_are_refused_in_every_notation() {
    let targets = targets(WebhooksConfig::default());
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "%31%32%37.0.0.1",
        "１２７.0.0.1",
        "127。0。0。1",
        "localhost",
        "LOCALHOST.",
        "a.localhost",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[2002:7f00:1::]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b:1::7f00:1]",
        "[::ffff:0:127.0.0.1]",
        "0.0.0.0",
        "0",
        "0.1.2.3",
        "[::]",
        "169.254.169.254",
        "0xa9fea9fe",
        "2852039166",
        "0251.0376.0251.0376",
        "169.254.1.1",
        "[::ffff:169.254.169.254]",
        "[2002:a9fe:a9fe::1]",
        "[64:ff9b::a9fe:a9fe]",
        "[fd00:ec2::254]",
        "[fd20:ce::254]",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "[fe80::1]",
        "[febf::1]",
        "224.0.0.1",
        "239.255.255.250",
        "[ff02::1]",
        "255.255.255.255",
        "240.0.0.1",
        "[2001:0:1::1]",
        "[100::1]",
        "[4000::1]",
        "both.example",
        "inside.example",
    ] {
        for url in [format!("https://{host}/hook"), format!("http://{host}:8080/hook")] {
            refusal(&targets, &url).await;
        }
    }
}

#[tokio::test]
async fn a_url_is_refused_for_what_is_wrong_with_it() {
    let targets = targets(WebhooksConfig::default());
    let long = format!("https://public.example/{}", "a".repeat(2048));
    for (url, why) in [
        ("ftp://public.example/", "must be https"),
        ("file:///etc/passwd", "must be https"),
        ("public.example/hook", "is no URL"),
        ("https://user@public.example/", "no user name"),
        ("https://user:pass@public.example/", "no user name"),
        ("https://public.example/#here", "no fragment"),
        ("https://public.example:0/", "port"),
        ("https://public.example:65536/", "is no URL"),
        ("https://", "is no URL"),
        ("https://999.1.1.1/", "is no URL"),
        ("http://public.example/", "needs https"),
        ("http://203.0.113.7/", "needs https"),
        ("http://unknown.example/", "must be https"),
        ("https://zero.example:8443/", "the appliance itself"),
        ("https://192.168.7.7/", "own machine"),
        ("https://192.168.7.7:8443/", "own machine"),
        ("https://[::ffff:192.168.7.7]:8443/", "own machine"),
        (long.as_str(), "2048"),
    ] {
        let said = refusal(&targets, url).await;
        assert!(said.contains(why), "{url}: {said}");
    }
}

#[tokio::test]
async fn receivers_are_accepted_where_the_settings_allow_them() {
    let plain = targets(WebhooksConfig::default());
    for (url, normal) in [
        ("https://public.example/hook?a=b", "https://public.example/hook?a=b"),
        ("https://unknown.example/hook", "https://unknown.example/hook"),
        ("http://private.example:9000", "http://private.example:9000/"),
        ("http://10.1/hook", "http://10.0.0.1/hook"),
        ("http://[fd12::1]:80/", "http://[fd12::1]/"),
    ] {
        assert_eq!(plain.check(url).await.unwrap(), normal);
    }
    let strict = targets(WebhooksConfig { allow_private: false, ..WebhooksConfig::default() });
    strict.check("https://public.example/").await.unwrap();
    for url in ["https://private.example/", "https://10.1/", "https://[fd12::1]/", "https://[::ffff:a00:1]/"] {
        assert!(refusal(&strict, url).await.contains("allow_private"));
    }
    let local = targets(WebhooksConfig { allow_loopback: true, ..WebhooksConfig::default() });
    for url in ["http://127.0.0.1:9000/", "https://inside.example/", "http://[::1]:9000/", "https://192.168.7.7/"] {
        local.check(url).await.unwrap();
    }
    for url in [
        "https://127.0.0.1:8443/",
        "https://[::1]:8443/",
        "https://[::ffff:127.0.0.1]:8443/",
        "https://192.168.7.7:8443/",
    ] {
        assert!(refusal(&local, url).await.contains("the appliance itself"));
    }
}
