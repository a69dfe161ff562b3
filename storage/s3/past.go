package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"emsafe/storage"
)

var _ storage.Versioned = (*Bucket)(nil)

// Past implements storage.Versioned. Where versions cannot be listed, because
// the provider has none or the credentials may not, it is the bucket as it is.
func (b *Bucket) Past() storage.Bucket {
	return &past{Bucket: b, oldest: map[string]string{}}
}

// past is a bucket before anybody deleted or overwrote in it.
type past struct {
	*Bucket
	mu     sync.Mutex
	oldest map[string]string // by key, the version to read; "" for what a plain request gives
	plain  bool              // versions cannot be had
	denied error             // why, where it is the credentials that may not
}

// version is what a listing says of one key.
type version struct {
	info storage.Info
	id   string
}

// List implements storage.Bucket over the oldest version of every key.
func (p *past) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		for v, err := range p.versions(ctx, prefix, after) {
			if errors.Is(err, errNoVersions) {
				p.Bucket.List(ctx, prefix, after)(yield)
				return
			}
			if err == nil {
				p.learn(v)
			}
			if !yield(v.info, err) {
				return
			}
		}
	}
}

func (p *past) learn(v version) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if v.info.Hidden || v.info.Versions > 1 {
		p.oldest[v.info.Key] = v.id
	} else {
		p.oldest[v.info.Key] = ""
	}
}

// Open implements storage.Bucket with the oldest version.
func (p *past) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := storage.CheckKey(key); err != nil {
		return nil, err
	}
	id, err := p.version(ctx, key)
	if err != nil {
		return nil, err
	}
	return p.open(ctx, key, id, offset, length)
}

// version is the id of the version of a key that counts, "" for what a plain
// request gives.
func (p *past) version(ctx context.Context, key string) (string, error) {
	p.mu.Lock()
	id, known := p.oldest[key]
	p.mu.Unlock()
	if known {
		return id, nil
	}
	for info, err := range p.List(ctx, key, "") {
		if err != nil {
			return "", err
		}
		if info.Key >= key {
			break
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.oldest[key], nil
}

// mostVersions bounds how many versions of a key are looked at: whoever may write
// can add as many as they like.
const mostVersions = 1000

// Versions implements storage.Versioned.
func (b *Bucket) Versions(ctx context.Context, key string) iter.Seq2[io.Reader, error] {
	return func(yield func(io.Reader, error) bool) {
		list, err := b.versionsOf(ctx, key)
		if err != nil {
			if !withoutVersions(err) {
				yield(nil, b.explain(ctx, "ListObjectVersions", key, err))
			}
			return
		}
		for _, v := range list {
			r, err := b.open(ctx, key, aws.ToString(v.VersionId), 0, -1)
			more := yield(r, err)
			if err == nil {
				r.Close()
			}
			if !more {
				return
			}
		}
	}
}

// versionsOf lists the versions of a key, the oldest first, those that were put
// there last of all being left out if there are too many.
func (b *Bucket) versionsOf(ctx context.Context, key string) ([]types.ObjectVersion, error) {
	list, _, err := b.versionsUnder(ctx, key)
	return list, err
}

// versionsUnder is versionsOf, and tells whether a delete marker lies over them.
func (b *Bucket) versionsUnder(ctx context.Context, key string) (list []types.ObjectVersion, hidden bool, err error) {
	in := s3.ListObjectVersionsInput{Bucket: b.bucket(), Prefix: b.name(key)}
	for {
		page, err := b.versionPage(ctx, &in)
		if err != nil {
			return nil, false, err
		}
		for _, v := range page.Versions {
			if aws.ToString(v.Key) == *in.Prefix {
				list = append(list, v)
			}
		}
		for _, m := range page.DeleteMarkers {
			hidden = hidden || aws.ToString(m.Key) == *in.Prefix && aws.ToBool(m.IsLatest)
		}
		if !aws.ToBool(page.IsTruncated) || aws.ToString(page.NextKeyMarker) > *in.Prefix {
			break
		}
		in.KeyMarker, in.VersionIdMarker = page.NextKeyMarker, page.NextVersionIdMarker
	}
	slices.Reverse(list) // a listing has the newest first
	slices.SortStableFunc(list, func(a, b types.ObjectVersion) int {
		return aws.ToTime(a.LastModified).Compare(aws.ToTime(b.LastModified))
	})
	return list[:min(len(list), mostVersions)], hidden, nil
}

var errNoVersions = errors.New("versions cannot be listed")

// versions lists the keys with their oldest versions, in order.
func (p *past) versions(ctx context.Context, prefix, after string) iter.Seq2[version, error] {
	return func(yield func(version, error) bool) {
		p.mu.Lock()
		plain := p.plain
		p.mu.Unlock()
		if plain {
			yield(version{}, errNoVersions)
			return
		}
		in := s3.ListObjectVersionsInput{Bucket: p.bucket()}
		if full := p.cfg.Prefix + prefix; full != "" {
			in.Prefix = aws.String(full)
		}
		if after != "" {
			in.KeyMarker = aws.String(p.cfg.Prefix + after)
		}
		g := &grouping{p: p, prefix: prefix, after: after, yield: yield}
		for first := true; ; first = false {
			page, err := p.versionPage(ctx, &in)
			if err != nil && first && withoutVersions(err) {
				p.mu.Lock()
				if p.plain = true; deniedVersions(err) {
					p.denied = fmt.Errorf("%s: these credentials may not list versions (%s): what somebody deleted or hid is not seen from here", p.address, said(err))
				}
				p.mu.Unlock()
				yield(version{}, errNoVersions)
				return
			}
			if err == nil {
				err = g.take(page)
			}
			if err != nil {
				if !g.over {
					yield(version{}, p.explain(ctx, "ListObjectVersions", prefix, err))
				}
				return
			}
			if g.over {
				return
			}
			if !aws.ToBool(page.IsTruncated) {
				g.flush()
				return
			}
			in.KeyMarker, in.VersionIdMarker = page.NextKeyMarker, page.NextVersionIdMarker
		}
	}
}

func (b *Bucket) versionPage(ctx context.Context, in *s3.ListObjectVersionsInput) (page *s3.ListObjectVersionsOutput, err error) {
	err = b.retry(ctx, func() error {
		page, err = b.client.ListObjectVersions(ctx, in)
		return err
	})
	if err == nil && aws.ToBool(page.IsTruncated) && aws.ToString(page.NextKeyMarker) == "" {
		err = badReply("the listing says that it goes on and not where")
	}
	if err == nil && aws.ToBool(page.IsTruncated) && aws.ToString(page.NextKeyMarker) == aws.ToString(in.KeyMarker) &&
		aws.ToString(page.NextVersionIdMarker) == aws.ToString(in.VersionIdMarker) {
		err = badReply("the listing goes round in a circle")
	}
	return page, err
}

// withoutVersions reports whether a refusal means that there is nothing to be
// had but the objects as they are. Where it means something else, like a wrong
// key, the plain request that follows is refused too.
func withoutVersions(err error) bool {
	code, status := reply(err)
	return code == "NotImplemented" || status == http.StatusForbidden || status == http.StatusNotImplemented || status == http.StatusMethodNotAllowed
}

// deniedVersions reports whether a refusal is of the credentials: there may be
// versions that others can list.
func deniedVersions(err error) bool {
	_, status := reply(err)
	return status == http.StatusForbidden
}

// Blind implements storage.Blinded.
func (p *past) Blind() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.denied
}

// grouping puts together what a listing says of one key, over its pages: the
// versions of a key come one after the other, the newest first.
type grouping struct {
	p             *past
	prefix, after string
	yield         func(version, error) bool
	over          bool // nobody wants more

	current version
}

// take goes through versions and delete markers together, which a page gives as
// two lists, each in the order of keys.
func (g *grouping) take(page *s3.ListObjectVersionsOutput) error {
	versions, markers := page.Versions, page.DeleteMarkers
	for len(versions)+len(markers) > 0 && !g.over {
		if len(versions) == 0 || len(markers) > 0 && aws.ToString(markers[0].Key) < aws.ToString(versions[0].Key) {
			m := markers[0]
			markers = markers[1:]
			if err := g.key(aws.ToString(m.Key)); err != nil {
				return err
			}
			g.current.info.Hidden = g.current.info.Hidden || aws.ToBool(m.IsLatest)
			continue
		}
		v := versions[0]
		versions = versions[1:]
		if err := g.key(aws.ToString(v.Key)); err != nil {
			return err
		}
		at := aws.ToTime(v.LastModified).UTC()
		g.current.info.Versions++
		if g.current.info.Versions == 1 || !at.After(g.current.info.Modified) {
			g.current.info.Size, g.current.info.Modified, g.current.id = aws.ToInt64(v.Size), at, aws.ToString(v.VersionId)
		}
	}
	return nil
}

// key begins the group of a key, and ends the one before.
func (g *grouping) key(name string) error {
	key, ok := strings.CutPrefix(name, g.p.cfg.Prefix)
	switch {
	case !ok || !strings.HasPrefix(key, g.prefix):
		return badReply(fmt.Sprintf("the listing of %q has %q", g.p.cfg.Prefix+g.prefix, name))
	case key == g.current.info.Key:
		return nil
	case key < g.current.info.Key:
		return badReply(fmt.Sprintf("the listing has %q after %q", key, g.current.info.Key))
	}
	g.flush()
	g.current = version{info: storage.Info{Key: key}}
	return nil
}

// flush gives the group, if there is a version in it: a delete marker alone is
// of something that is gone.
func (g *grouping) flush() {
	i := g.current.info
	if g.over || i.Versions == 0 || i.Key <= g.after || storage.CheckKey(i.Key) != nil {
		return
	}
	g.over = !g.yield(g.current, nil)
}
