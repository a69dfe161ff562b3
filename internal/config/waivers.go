package config

import (
	"errors"
	"io/fs"
	"path/filepath"

	"go.yaml.in/yaml/v3"

	"emsafe/internal/fault"
)

// LoadWaivers reads a file that holds waivers alone: `version` and `waivers`,
// as in a configuration, each with an owner. It is judged as a configuration
// is: whoever writes it can hide a finding.
func LoadWaivers(path string) (map[string]Waiver, error) {
	file, err := filepath.Abs(path)
	if err != nil {
		return nil, fault.New(fault.Config, "find the waivers: %w", err)
	}
	data, err := readTrusted(file, "waivers file", sizeLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.Config, "there is no waivers file %s: %w", file, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	waivers, problems := parseWaivers(file, data)
	if problems != nil {
		return nil, fault.New(fault.Config, "%w", problems)
	}
	return waivers, nil
}

func parseWaivers(name string, data []byte) (map[string]Waiver, Problems) {
	p := newParse(name, &data, func(string) (string, bool) { return "", false })
	root := p.tree(data)
	switch {
	case root == nil:
	case root.Kind != yaml.MappingNode:
		p.add(placeOf(root), "", "the file is not a mapping of keys to values", "it begins with: version: 1")
	case p.newer(root):
	default:
		known := map[string]*key{}
		for _, k := range children("") {
			known[k.name()] = k
		}
		p.pairs(root, "", func(name, value *yaml.Node, path string) {
			if path != "version" && path != "waivers" {
				p.add(placeOf(name), path, "this is a file of waivers, and "+quoted(path)+" has no place in it", "it has version and waivers")
				return
			}
			p.value(known[path], value, path, at{config: p.config})
		})
		if _, ok := p.places["version"]; !ok {
			p.add(spot{1, 1, 0}, "version", "the file does not say its version", "begin it with: version: 1")
		}
		for name, w := range p.config.Waivers {
			if w.Owner == "" {
				where := "waivers." + name
				p.add(p.places[where], where, "the waiver "+quoted(name)+" has no owner", "owner: NAME says who answers for it")
			}
		}
	}
	if problems := p.all(); problems != nil {
		return nil, problems
	}
	return p.config.Waivers, nil
}
