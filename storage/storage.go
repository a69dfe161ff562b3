// Package storage is a place that keeps objects. [Bucket] is the whole of it:
// four operations whose promises are enough to build a backup repository on,
// kept by a folder (storage/dir) and by S3 (storage/s3), and held to by one
// conformance suite (storage/storagetest).
//
// Keys are slash-separated paths of [A-Za-z0-9._-] segments of at most 255
// bytes, without empty, "." or ".." segments, at most 512 bytes in all. They
// are created once and never overwritten: two writers of one key cannot both
// succeed. Whether "a" can be kept beside "a/b", and whether a deleted key is
// free again in a bucket with versions, depends on the bucket: use neither.
package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"
)

// ErrNotExist is wrapped by Open for a key that is not there.
var ErrNotExist = errors.New("object does not exist")

// ErrExists is wrapped by Create for a key that is there already.
var ErrExists = errors.New("object exists already")

// ErrUnsettled is wrapped by Create when the reply was lost and it could not
// be established whether the object was stored. Nothing half-written is ever
// visible, so trying again is safe; the second try may report ErrExists for
// an object of one's own.
var ErrUnsettled = errors.New("outcome unknown")

// Info describes one stored object.
type Info struct {
	Key      string
	Size     int64     // bytes
	Modified time.Time // the storage's own clock, UTC

	// Of a [Versioned] bucket's past: whether a delete marker lies over the
	// key, and how many versions it has; 0 if that is not known.
	Hidden   bool
	Versions int
}

// Bucket is a place that keeps objects. All methods are safe for concurrent
// use and stop when ctx ends. Errors that an operator must act on carry an
// internal/fault kind (NoBucket, Credentials, ClockSkew, NoSpace, Permission,
// Storage).
type Bucket interface {
	// Create stores everything read from r under key, only if the key does
	// not exist, else the error wraps ErrExists. When it returns nil the
	// object is whole, durable (a folder has fsynced file and directory) and
	// listed; when it fails nothing is visible under the key, now or later.
	// r is read once, sequentially, while it still grows perhaps: a reader
	// error aborts the upload. size is the number of bytes that r will give,
	// or -1 if that is not known yet.
	Create(ctx context.Context, key string, r io.Reader, size int64) (Info, error)

	// Open streams length bytes from offset; length -1 means to the end. The
	// error wraps ErrNotExist for a missing key. A stream that ends before
	// the length asked for (or, for -1, before the object's size) ends in an
	// error that is not io.EOF.
	Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error)

	// List yields the objects whose key starts with prefix and is greater
	// than after ("" for all), in byte order of keys. A listing that fails
	// midway yields an error as its last element: it never just ends.
	List(ctx context.Context, prefix, after string) iter.Seq2[Info, error]

	// Delete removes key; removing what is not there is no error.
	Delete(ctx context.Context, key string) error

	// String is the address for people and manifests, without secrets.
	String() string
}

// Near is implemented by a bucket where looking costs no request: a folder.
type Near interface{ Near() }

// Timed is implemented by a bucket whose server says what time it is, to the
// second, however wrong the clock here may be.
type Timed interface {
	Time(ctx context.Context) (time.Time, error)
}

// ErrLocked is what Delete's error is for an object that is locked, see
// [Locking] and [LockedError].
var ErrLocked = errors.New("locked")

// LockedError is an ErrLocked that knows until when.
type LockedError struct {
	Key   string
	Until time.Time
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("%s: locked until %s", e.Key, e.Until.UTC().Format(time.RFC3339))
}

// Is makes it an ErrLocked.
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// LockSlack is how much longer than promised objects are locked: a manifest is
// committed up to a day after its payload was stored, and both must stay for the
// term.
const LockSlack = 24 * time.Hour

// Versioned is implemented by a bucket that may keep what was deleted or
// overwritten in it.
type Versioned interface {
	// Past is the bucket before anybody deleted or overwrote: the oldest
	// version of every key, also under a delete marker. An object that was
	// created once, as all here are, has only that one by right. Its Delete
	// removes all versions of a key.
	Past() Bucket

	// Versions opens the versions of a key as they are, whole, the oldest
	// first; none where versions cannot be had. The oldest is not always the
	// first that was there: at Amazon an upload in parts is as old as its
	// beginning, so that whoever may write can put one in front. The reader
	// of each is closed by the time the next is asked for.
	Versions(ctx context.Context, key string) iter.Seq2[io.Reader, error]
}

// Past is the past of a bucket that keeps one, and the bucket itself otherwise.
func Past(b Bucket) Bucket {
	if v, ok := b.(Versioned); ok {
		return v.Past()
	}
	return b
}

// Blinded is implemented by the past of a bucket that may not be seen with the
// credentials at hand.
type Blinded interface {
	// Blind is why the listings that were made so far could not show what was
	// deleted or hidden; nil if they did, or if the bucket keeps nothing.
	Blind() error
}

// Blind is what the past of a bucket says of itself.
func Blind(b Bucket) error {
	if p, ok := b.(Blinded); ok {
		return p.Blind()
	}
	return nil
}

// Locking is implemented by a bucket that can keep objects from being deleted,
// by anybody, for a time that is configured with it.
type Locking interface {
	// LockedUntil is until when, at least, objects are locked that were stored
	// in the [LockSlack] before an instant, and no object that was stored by
	// then is locked longer than that slack after it; zero if nothing is locked.
	LockedUntil(at time.Time) time.Time
	// Relock locks an object anew, as if it were stored now.
	Relock(ctx context.Context, key string) error
	// ProveLock stores a locked object, reads its lock back and tries to
	// delete it. An error is a lock that does not hold, or none; how much is
	// proven otherwise depends on what the credentials may do.
	ProveLock(ctx context.Context) (LockProof, error)
}

// LockProof says what of a lock was seen. A locked object is always taken.
type LockProof struct {
	Until  time.Time // until when the bucket says that the object is locked; zero: it could not be asked
	Tested bool      // a delete was refused, by credentials that deleted another object
}

// LockedUntil is what a bucket that locks says; zero for one that does not.
func LockedUntil(b Bucket, at time.Time) time.Time {
	if l, ok := b.(Locking); ok {
		return l.LockedUntil(at)
	}
	return time.Time{}
}

// CheckKey refuses keys outside the grammar above.
func CheckKey(key string) error {
	bad := func(why string) error { return fmt.Errorf("storage: key %q: %s", key, why) }
	if key == "" || len(key) > 512 {
		return bad("must have 1 to 512 bytes")
	}
	for seg := range strings.SplitSeq(key, "/") {
		if seg == "" || seg == "." || seg == ".." {
			return bad("empty, . or .. segment")
		}
		if len(seg) > 255 {
			return bad("segment of more than 255 bytes")
		}
		for _, c := range []byte(seg) {
			switch {
			case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
			default:
				return bad("character outside A-Z a-z 0-9 . _ -")
			}
		}
	}
	return nil
}

// Target is a bucket under the name that the configuration gives it. Open is
// called when the bucket is needed, so that one that is down fails alone.
type Target struct {
	Name string
	Lock time.Duration // how long every backup must be locked, with all that it is built on; 0: it need not
	Open func(ctx context.Context) (Bucket, error)
}
