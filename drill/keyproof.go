package drill

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"emsafe/internal/durable"
)

// ProveEvery is how often the recovery key is to be proven if nothing says
// otherwise.
const ProveEvery = 180 * 24 * time.Hour

func proofFile(state, database string) string { return filepath.Join(state, database+".keys.json") }

// Proofs are the last proofs of keys for a database on this host, by recipient.
func Proofs(state, database string) (map[string]KeyProof, error) {
	proofs := map[string]KeyProof{}
	data, err := os.ReadFile(proofFile(state, database))
	if errors.Is(err, fs.ErrNotExist) {
		return proofs, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &proofs)
	}
	if err != nil {
		return map[string]KeyProof{}, fmt.Errorf("proofs of keys: %w", err)
	}
	return proofs, nil
}

// Prove keeps a proof.
func Prove(state, database string, proof KeyProof) error {
	unlock, err := durable.Lock(proofFile(state, database)+".lock", "the proofs of keys of "+database)
	if err != nil {
		return err
	}
	defer unlock() //nolint:errcheck // nothing depends on it any more
	durable.Sweep(proofFile(state, database))
	proofs, err := Proofs(state, database)
	if err != nil {
		return err
	}
	proofs[proof.Recipient] = proof
	data, err := json.MarshalIndent(proofs, "", " ")
	if err != nil {
		return err
	}
	return durable.WriteFile(proofFile(state, database), append(data, '\n'), 0o600)
}

// LastProof is the newest proof of a key other than those given (the drill key
// is on this host anyway); nil if there is none.
func LastProof(state, database string, except ...string) *KeyProof {
	proofs, _ := Proofs(state, database) //nolint:errcheck // what cannot be read proves nothing
	var last *KeyProof
	for recipient, p := range proofs {
		if !slices.Contains(except, recipient) && (last == nil || p.At.After(last.At)) {
			last = &p
		}
	}
	return last
}

// Due reports whether the key is to be proven again; also for nil.
func (k *KeyProof) Due(now time.Time, every time.Duration) bool {
	if every <= 0 {
		every = ProveEvery
	}
	return k == nil || now.Sub(k.At) > every
}
