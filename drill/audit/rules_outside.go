package audit

import "emsafe/internal/finding"

const (
	low      = finding.Low
	medium   = finding.Medium
	high     = finding.High
	critical = finding.Critical
)

var tlsRules = []Rule{
	{"EMS-TLS-001", high, Perimeter, outside, asvs + "12.2.1", "everything goes over TLS",
		"Passwords, keys and data can be read and changed by everybody on the way.", "Put a proxy with TLS in front, and close the plain port.", "caddy", ""},
	{"EMS-TLS-002", high, Perimeter, outside, asvs + "12.2.2", "the certificate is by a known authority, for this name",
		"Clients that must ignore one wrong certificate ignore them all.", "Get one from Let's Encrypt for the public name: Caddy does it by itself, certbot for nginx.", "caddy", "tls-renewal"},
	{"EMS-TLS-003", medium, Perimeter, outside, asvs + "12.2.2", "the certificate is good for 14 more days",
		"A certificate that nobody renews takes the service down on a day that is known.", "Find out why the renewal did not run.", "", "tls-renewal"},
	{"EMS-TLS-004", high, Perimeter, outside, asvs + "12.1.1", "TLS older than 1.2 is refused",
		"TLS 1.0 and 1.1 have known breaks.", "ssl_protocols TLSv1.2 TLSv1.3; Caddy does so unasked.", "nginx", ""},
	{"EMS-TLS-005", medium, Perimeter, outside, asvs + "12.1.2", "weak cipher suites are refused",
		"Suites without forward secrecy, with RC4 or 3DES let recorded traffic be read later.", "ssl_ciphers with ECDHE and AEAD only.", "nginx", ""},
	{"EMS-TLS-006", low, Perimeter, outside, "", "who asks without the name is not served",
		"Scanners go by address, not by name; what answers them is found first.", "A default server that refuses the handshake (ssl_reject_handshake on).", "nginx", "under-scan"},
	{"EMS-TLS-007", medium, Perimeter, outside, asvs + "4.1.2", "the plain port only redirects to TLS",
		"What is served in clear is used in clear.", "A server on port 80 that answers 301 to https and nothing else, or no port 80.", "nginx", ""},
}

var headerRules = []Rule{
	{"EMS-HDR-001", medium, Perimeter, outside, asvs + "3.4.1", "HSTS holds browsers to TLS for at least six months",
		"Without it the first request of a visit goes in clear, and can be led elsewhere.", "Strict-Transport-Security: max-age=31536000; includeSubDomains", "nginx", ""},
	{"EMS-HDR-002", low, Perimeter, outside, asvs + "3.4.4", "browsers may not guess the type of content",
		"An upload that looks like a page is run as one.", "X-Content-Type-Options: nosniff", "nginx", ""},
	{"EMS-HDR-003", medium, Perimeter, outside, asvs + "3.4.3", "a content security policy says what pages may run",
		"It is the second wall when a script was smuggled into a page.", "Content-Security-Policy: default-src 'self'; object-src 'none'; base-uri 'none'", "nginx", ""},
	{"EMS-HDR-004", low, Perimeter, outside, asvs + "3.4.6", "others may not frame the pages",
		"A page in somebody's invisible frame is clicked by those who do not see it.", "Content-Security-Policy: frame-ancestors 'none', or X-Frame-Options: DENY", "nginx", ""},
	{"EMS-HDR-005", low, Perimeter, outside, asvs + "3.4.5", "addresses with queries are not told to others",
		"The Referer tells other hosts what stood in the address.", "Referrer-Policy: no-referrer, or strict-origin-when-cross-origin", "nginx", ""},
	{"EMS-HDR-006", medium, Perimeter, outside, asvs + "3.4.4", "the headers stand on error answers too",
		"Error pages reflect what was sent; they need the headers most.", "add_header … always; in Caddy the header directive outside of handlers.", "nginx", ""},
	{"EMS-HDR-007", low, Perimeter, outside, asvs + "13.4.6", "answers do not tell which software and version serves",
		"Scanners look up what is known to be wrong with it.", "server_tokens off; uvicorn --no-server-header; no X-Powered-By.", "nginx", ""},
}

var edgeRules = []Rule{
	{"EMS-HOST-001", medium, Perimeter, outside, "", "a request for another host is refused",
		"Links and redirects made from the Host header lead where the sender wants; scanners by address are served.", "A default server that answers 421 or nothing; TrustedHostMiddleware in the application.", "nginx", ""},
	{"EMS-HOST-002", high, Perimeter, outside, asvs + "3.7.2", "another host's name is never put into a redirect or a link",
		"A password-reset mail with a link to somebody else's host gives the account away.", "Make links from a configured name; refuse other Hosts; overwrite X-Forwarded-Host at the proxy.", "nginx", ""},
	{"EMS-NET-001", high, Perimeter, outside, asvs + "4.1.3", "the application's own port does not answer from outside",
		"Who asks it directly goes past the proxy: its TLS, its limits, its log.", "Listen on 127.0.0.1 or a socket, and let the firewall admit 80 and 443 only.", "nftables", ""},
	{"EMS-PROXY-001", high, Perimeter, outside, asvs + "4.1.3", "headers that a proxy sets cannot be sent by a client",
		"Whoever can say where he comes from gets what is meant for the inside, and escapes limits and bans.", "Overwrite X-Forwarded-* and X-Real-IP at the proxy; trust them from the proxy's address alone (--forwarded-allow-ips).", "uvicorn-unit", ""},
	{"EMS-BODY-001", medium, Perimeter, intrusive, asvs + "5.2.1", "a body that is too large is refused with 413",
		"Memory and disk are filled by one request.", "client_max_body_size, or request_body max_size in Caddy.", "nginx", ""},
	{"EMS-SLOW-001", medium, Perimeter, intrusive, asvs + "15.2.2", "a client that drips its headers is cut off",
		"A few hundred slow clients hold every connection.", "client_header_timeout in http {}, not in a server; servers { timeouts } in Caddy.", "nginx", "block-addresses"},
	{"EMS-SLOW-002", medium, Perimeter, intrusive, asvs + "15.2.2", "a client that stops in its body is cut off",
		"A few hundred stalled uploads hold every worker.", "client_body_timeout in http {}; read_body in Caddy.", "nginx", "block-addresses"},
	{"EMS-SLOW-003", low, Perimeter, intrusive, asvs + "15.2.2", "an idle connection is closed",
		"Idle connections are memory and descriptors.", "keepalive_timeout; idle in Caddy; --timeout-keep-alive for uvicorn.", "nginx", ""},
	{"EMS-SLOW-004", high, Perimeter, intrusive, asvs + "15.2.2", "a hundred stalled clients do not lock others out",
		"A limit on concurrent requests inside of the application is a way to shut it down.", "Let the proxy take requests whole before it passes them on, with timeouts and limits per address.", "nginx", "block-addresses"},
}

var appRules = []Rule{
	{"EMS-CORS-001", high, Application, outside, asvs + "3.4.2", "no other origin may read answers with credentials",
		"Any web page that a user opens can read his data here.", "List the origins that may, exactly; never reflect, never null.", "", ""},
	{"EMS-CORS-002", low, Application, outside, asvs + "3.4.2", "not every origin may read answers",
		"With `*` any web page reads what a visitor's network position or address gives access to.", "List the origins that may.", "", ""},
	{"EMS-CORS-003", medium, Application, outside, asvs + "3.5.2", "no other origin may ask for DELETE",
		"A preflight that is answered lets any web page change data in a user's name.", "List origins and methods.", "", ""},
	{"EMS-DOC-001", medium, Application, outside, asvs + "13.4.5", "the documentation pages are not public",
		"They are the map of everything there is to attack; debug=False does not hide them.", "docs_url=None, redoc_url=None, openapi_url=None in production, or only from listed networks.", "nginx", ""},
	{"EMS-ERR-001", high, Application, outside, asvs + "13.4.2", "no debug page or stack trace is shown",
		"Traces show code, paths, settings, and often secrets.", "Switch the debug mode off: it may be on by default.", "", ""},
	{"EMS-ERR-002", medium, Application, outside, asvs + "16.5.1", "errors do not tell SQL, paths or exceptions",
		"They tell an attacker which of his attempts came near.", "One handler for all exceptions: a generic message and a request id outside, the detail in the log.", "", ""},
	{"EMS-ERR-003", medium, Application, outside, asvs + "2.2.1", "numbers out of range and broken input are refused, not a 500",
		"What was not thought of runs on into the database.", "Bounds on every parameter: ge, le, max_length.", "", ""},
	{"EMS-EXP-001", critical, Application, outside, asvs + "13.4.7", "no database, environment file or repository is served",
		"All data, or the keys to it, for one request.", "Take it out of the web root at once, and change every secret that was in it.", "nginx", "suspected-intrusion"},
	{"EMS-EXP-002", medium, Application, outside, asvs + "13.4.5", "metrics are not public",
		"They tell routes, load, users and errors.", "Serve them on loopback or to listed networks.", "nginx", ""},
	{"EMS-EXP-003", low, Application, outside, asvs + "13.4.5", "the health page tells nothing but whether it is well",
		"Versions, paths and addresses help whoever looks for a way in.", "Answer {\"status\": \"ok\"}; details for listed networks only.", "nginx", ""},
	{"EMS-EXP-004", high, Application, outside, asvs + "15.2.3", "no debug console or profiler is reachable",
		"A console runs code; a profiler shows memory.", "Leave it out of production.", "nginx", "suspected-intrusion"},
	{"EMS-EXP-005", medium, Application, outside, asvs + "13.4.3", "folders are not listed",
		"What nobody was given a link to is found: uploads of others, old versions, backups.", "autoindex off in nginx, file_server without browse in Caddy; StaticFiles and whitenoise list nothing.", "", ""},
	{"EMS-METHOD-001", low, Application, outside, asvs + "13.4.4", "TRACE is refused",
		"It gives back headers that scripts are not to see.", "Proxies refuse it unless told otherwise.", "nginx", ""},
	{"EMS-PAGE-001", high, Application, outside, asvs + "15.2.2", "a limit on rows also holds under search",
		"Pagination that is off where it costs most lets one request read the whole table.", "Apply limit and offset after the filter, in the one query.", "", ""},
	{"EMS-PAGE-002", medium, Application, outside, asvs + "15.2.2", "a page of 100,000 rows is refused",
		"One request reads everything, and takes the memory for it.", "le=100 on the parameter.", "", ""},
}

var accessRules = []Rule{
	{"EMS-AUTH-001", critical, Access, outside, asvs + "8.2.1", "every operation asks who is there",
		"What answers without credentials belongs to everybody.", "A guard in front of all routes, with exceptions by name, instead of one at each.", "nginx", "revoke-sessions"},
	{"EMS-AUTH-002", critical, Access, outside, asvs + "8.3.1", "made-up credentials open nothing",
		"A guard that looks whether there is a key, and not which, is none.", "Compare with the stored hash, in constant time.", "", "rotate-secrets"},
	{"EMS-COOKIE-001", medium, Access, outside, asvs + "3.3.1", "cookies are Secure, HttpOnly and SameSite",
		"A session that scripts or plain connections can read is stolen.", "Set-Cookie: __Host-…; Secure; HttpOnly; SameSite=Lax", "", "revoke-sessions"},
	{"EMS-CSRF-001", high, Access, outside, asvs + "3.5.1", "another site's form cannot write in a user's name",
		"Cookies go along with forms of other sites; the user does not see it.", "SameSite cookies, a check of Origin on writes, and only application/json bodies.", "", ""},
}

var limitRules = []Rule{
	{"EMS-RATE-001", medium, Limits, intrusive, asvs + "2.4.1", "a burst of requests is slowed down",
		"Scans, scraping and guessing are free.", "limit_req by address; 429 with Retry-After.", "nginx", "under-scan"},
	{"EMS-RATE-002", high, Limits, intrusive, asvs + "6.3.1", "a burst of wrong credentials is slowed down",
		"Passwords are guessed a thousand a second.", "A stricter limit on authentication, and a jail for those who go on.", "fail2ban", "block-addresses"},
	{"EMS-RATE-003", low, Limits, intrusive, asvs + "2.4.1", "who is slowed down is told for how long",
		"Good clients come back at once, and make it worse.", "429 with Retry-After, not 503.", "nginx", ""},
}
