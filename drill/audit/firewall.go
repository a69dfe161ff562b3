package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// firewall reads what nftables, or iptables, does with what comes in.
func (a *audit) firewall(ctx context.Context) {
	out, err := a.run(ctx, "nft", "-j", "list", "ruleset")
	if missing(err) {
		a.iptables(ctx)
		return
	}
	var doc struct {
		Nftables []struct {
			Chain *struct{ Family, Table, Name, Hook, Policy string }
			Rule  *struct {
				Family, Table, Chain string
				Expr                 []map[string]json.RawMessage
			}
		}
	}
	if err == nil {
		err = json.Unmarshal(out, &doc)
	}
	if err != nil {
		a.failed("EMS-FW-001", "nftables", err)
		a.failed("EMS-FW-002", "nftables", err)
		return
	}
	type key struct{ family, table, name string }
	input, drops := map[key]bool{}, []string{}
	for _, e := range doc.Nftables {
		if c := e.Chain; c != nil && c.Hook == "input" {
			input[key{c.Family, c.Table, c.Name}] = true
			if c.Policy == "drop" {
				drops = append(drops, fmt.Sprintf("%s %s %s: policy drop", c.Family, c.Table, c.Name))
			}
		}
	}
	// A jump leads on to chains without a hook; their ports count as well.
	var doors []string
	for _, e := range doc.Nftables {
		r := e.Rule
		if r == nil {
			continue
		}
		if input[key{r.Family, r.Table, r.Chain}] && everythingElse(r.Expr) {
			drops = append(drops, fmt.Sprintf("%s %s %s: a last rule drops", r.Family, r.Table, r.Chain))
		}
		if ports := admits(r.Expr); len(ports) > 0 {
			doors = append(doors, fmt.Sprintf("%s %s %s: tcp %s", r.Family, r.Table, r.Chain, strings.Join(ports, ", ")))
		}
	}
	a.filtered(drops, doors, "nftables")
}

func (a *audit) filtered(drops, doors []string, by string) {
	if len(drops) == 0 {
		a.fail("EMS-FW-001", by, "everything is let in")
		a.skip("EMS-FW-002", "there is no firewall (EMS-FW-001)")
		return
	}
	a.pass("EMS-FW-001", by, "what is not admitted is dropped", drops...)
	a.verdict("EMS-FW-002", "no others", "others are admitted, from everywhere", doors)
}

// everythingElse reports whether a rule drops without a condition.
func everythingElse(expr []map[string]json.RawMessage) bool {
	for _, e := range expr {
		for what := range e {
			switch what {
			case "drop", "reject":
				return true
			case "counter", "log":
			default:
				return false
			}
		}
	}
	return false
}

// admits are the ports besides 22, 80 and 443 that a rule accepts from
// everywhere.
func admits(expr []map[string]json.RawMessage) (ports []string) {
	accepts := false
	for _, e := range expr {
		if _, ok := e["accept"]; ok {
			accepts = true
		}
		var match struct {
			Left struct {
				Payload struct{ Protocol, Field string }
				Meta    struct{ Key string }
			}
			Right json.RawMessage
		}
		if e["match"] == nil || json.Unmarshal(e["match"], &match) != nil {
			continue
		}
		switch p := match.Left.Payload; {
		case p.Field == "saddr", strings.HasPrefix(match.Left.Meta.Key, "iif"):
			return nil // from somewhere only
		case p.Protocol == "tcp" && p.Field == "dport":
			for _, n := range regexp.MustCompile(`[0-9]+`).FindAllString(string(match.Right), -1) {
				if !slices.Contains([]string{"22", "80", "443"}, n) {
					ports = append(ports, n)
				}
			}
		}
	}
	if !accepts {
		return nil
	}
	return ports
}

func (a *audit) iptables(ctx context.Context) {
	out, err := a.run(ctx, "iptables", "-S")
	if missing(err) {
		a.fail("EMS-FW-001", "host", "neither nft nor iptables is installed: if somebody else filters for this host, waive it and say who")
		a.skip("EMS-FW-002", "there is no firewall (EMS-FW-001)")
		return
	}
	if err != nil {
		a.failed("EMS-FW-001", "iptables", err)
		a.failed("EMS-FW-002", "iptables", err)
		return
	}
	var drops, doors []string
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if line == "-P INPUT DROP" || line == "-A INPUT -j DROP" || strings.HasPrefix(line, "-A INPUT -j REJECT") {
			drops = append(drops, line)
		}
		port := regexp.MustCompile(`--dports? ([0-9:,]+)`).FindStringSubmatch(line)
		if port != nil && strings.Contains(line, "-p tcp") && strings.HasSuffix(line, "-j ACCEPT") && !strings.Contains(line, " -s ") && !strings.Contains(line, " -i ") {
			for _, n := range strings.FieldsFunc(port[1], func(r rune) bool { return r == ',' || r == ':' }) {
				if !slices.Contains([]string{"22", "80", "443"}, n) {
					doors = append(doors, line)
					break
				}
			}
		}
	}
	a.filtered(drops, doors, "iptables")
}

// bans asks fail2ban for its jails, and for the logs that they read.
func (a *audit) bans(ctx context.Context) {
	out, err := a.run(ctx, "fail2ban-client", "status")
	if missing(err) {
		a.fail("EMS-BAN-001", "fail2ban", "not installed")
		a.skip("EMS-BAN-002", "there is no jail (EMS-BAN-001)")
		return
	}
	if err != nil && strings.Contains(err.Error(), "Is fail2ban running?") {
		a.fail("EMS-BAN-001", "fail2ban", "it does not run")
		a.skip("EMS-BAN-002", "there is no jail (EMS-BAN-001)")
		return
	}
	if err != nil {
		a.failed("EMS-BAN-001", "fail2ban", err)
		a.failed("EMS-BAN-002", "fail2ban", err)
		return
	}
	_, list, _ := strings.Cut(string(out), "Jail list:")
	jails := strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\t' })
	web := slices.DeleteFunc(slices.Clone(jails), func(j string) bool { return strings.HasPrefix(j, "sshd") || j == "ssh" })
	if len(web) == 0 {
		a.fail("EMS-BAN-001", "fail2ban", "no jail but for ssh", "jails: "+strings.Join(jails, ", "))
	} else {
		a.pass("EMS-BAN-001", "fail2ban", "jails: "+strings.Join(jails, ", "))
	}
	if len(jails) == 0 {
		a.skip("EMS-BAN-002", "there is no jail (EMS-BAN-001)")
		return
	}
	var blind []string
	for _, j := range jails {
		out, err := a.run(ctx, "fail2ban-client", "get", j, "logpath")
		if err != nil {
			a.failed("EMS-BAN-002", "jail "+j, err)
			return
		}
		for _, file := range regexp.MustCompile(`/[^\s]+`).FindAllString(string(out), -1) {
			if !a.readable(file) {
				blind = append(blind, "jail "+j+": "+file)
			}
		}
		if strings.Contains(string(out), "No file is currently monitored") && !a.journal(ctx, j) {
			blind = append(blind, "jail "+j+": no file at all")
		}
	}
	a.verdict("EMS-BAN-002", "they do", "a jail reads what is not there", blind)
}

// journal reports whether a jail reads systemd's journal, and so no file.
func (a *audit) journal(ctx context.Context, jail string) bool {
	out, err := a.run(ctx, "fail2ban-client", "get", jail, "journalmatch")
	return err == nil && strings.Contains(string(out), "_SYSTEMD_UNIT")
}
