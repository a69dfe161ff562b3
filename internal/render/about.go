package render

import "fmt"

// about says where a configuration belongs, how it is checked, and what it needs
// or cannot do.
func about(target string, v view) (files [][2]string, check string, remarks []string) {
	path := ""
	say := func(format string, args ...any) { remarks = append(remarks, fmt.Sprintf(format, args...)) }
	switch target {
	case "nginx":
		path, check = "/etc/nginx/conf.d/"+v.Domain+".conf", "nginx -t"
		say("Take /etc/nginx/sites-enabled/default away: two default servers on one port are an error.")
		say("The certificate %s must be there before nginx starts: certbot certonly --webroot -w /var/www/acme -d %s, or your own.", v.Certificate, v.Domain)
		if v.GuardUser != "" {
			say("Write the guard's line into %s (root:www-data, 0640): it is in the comment at its place.", v.GuardFile)
		}
	case "caddy":
		path, check = "/etc/caddy/Caddyfile", "caddy validate --config /etc/caddy/Caddyfile --adapter caddyfile"
		say("Caddy cannot limit rates without a plugin: logins are guessed at full speed. Use nginx, build Caddy with mholt/caddy-ratelimit, or limit in the application; the fail2ban jail stops the worst.")
		say("The folder %s must be there and belong to caddy, or Caddy does not start.", v.Logs)
		if v.GuardUser != "" {
			say("The file holds the guard's hash: chgrp caddy and chmod 640 it.")
		}
		say("A request that is too large is answered with 413 only where Caddy reads it; the upstream may see a broken connection instead.")
	case "uvicorn-unit":
		path, check = "/etc/systemd/system/"+v.Unit+".service", "systemd-analyze verify FILE; systemd-analyze security --offline=true FILE"
		say("Make the user: useradd --system --home-dir %s --shell /usr/sbin/nologin %s", v.Data, v.User)
		say("An application that needs the network outside (mail, payment) needs IPAddressDeny taken out or the addresses in IPAddressAllow.")
	case "nftables":
		path, check = "/etc/nftables.conf", "nft -c -f FILE"
		if len(v.SSH) == 0 {
			say("web.ssh names no network, so ssh stays open to everybody, slowed down. Name yours.")
		}
		say("It replaces all rules. Keep a second session open, and a way back: `(sleep 120; nft flush ruleset) &` before you load it.")
	case "fail2ban":
		path, check = "/etc/fail2ban/jail.d/emsafe-web.local", "fail2ban-regex "+v.Logs+"/emsafe-web.log /etc/fail2ban/filter.d/emsafe-web-auth.conf"
		for _, filter := range []string{"emsafe-web-auth", "emsafe-web-scan"} {
			files = append(files, [2]string{filter, "/etc/fail2ban/filter.d/" + filter + ".conf"})
		}
		say("Behind another proxy every request has its address: put real_ip or trusted_proxies right first, or it bans the proxy.")
	case "logrotate":
		path, check = "/etc/logrotate.d/emsafe-web", "logrotate -d FILE"
	case "prometheus-rules":
		path, check = "/etc/prometheus/rules/emsafe-web.yml", "promtool check rules FILE"
		say("The numbers come from Caddy's own metrics, or for nginx from an exporter that reads its log with the status as a label (nginx_http_response_count_total); nginx itself does not count by status.")
	case "ci":
		path, check = ".github/workflows/security.yml", "a run of it"
		say("It is for a Python application in GitHub's words; the commands are the same elsewhere. Versions are pinned: renew them with your other dependencies.")
	}
	return append([][2]string{{target, path}}, files...), check, remarks
}
