package s3

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"emsafe/internal/fault"
	"emsafe/storage"
)

// Secret is a string that does not print itself, whatever the verb.
type Secret string

// Format implements fmt.Formatter.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[secret]")) }

// MarshalText keeps the secret out of JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte("[secret]"), nil }

// Config says which bucket, how to reach it, and how to use it. Only Bucket
// is needed for Amazon; a Provider fills in what is usual there, and every
// field that is set wins over the preset.
type Config struct {
	Bucket   string
	Prefix   string // a key prefix without slashes at its ends; may be empty
	Provider string // aws, r2, b2, wasabi, hetzner, garage, minio, scaleway; empty: aws without an Endpoint, else any server
	Endpoint string // https://host[:port]; empty where the provider's follows from the region
	Region   string

	PathStyle *bool  // bucket in the path instead of the host name
	Checksums *bool  // store SHA-256 checksums; the transfer is protected by the signature anyway
	CAFile    string // PEM; trusted beside the system's authorities

	// ConditionalWrites says whether the provider honours If-None-Match. Without
	// it objects are created in a bucket that keeps versions: see unconditional.go.
	ConditionalWrites *bool

	StorageClass string
	SSE          string // "", AES256 or aws:kms
	KMSKeyID     string // for aws:kms; empty is the account's own key

	// Without AccessKeyID the standard AWS chain is asked: environment,
	// shared files, SSO, container and instance roles.
	AccessKeyID     string
	SecretAccessKey Secret
	SessionToken    Secret

	Lock *Lock // of every object that is created; nil: none

	UploadLimit   int64         // bytes per second over all uploads of this Bucket; 0 is none
	UploadLimited func() bool   // whether UploadLimit holds now; nil: always
	PartSize      int64         // of a multipart upload; 0 is 8 MiB
	Concurrency   int           // parts in flight per upload, 1 to 8; 0 is 3
	MaxAttempts   int           // of each request; 0 is 6
	StallTimeout  time.Duration // a transfer in which no byte moves for so long is broken off; 0 is 60 s
}

const (
	minPart   = 5 << 20 // S3's own limits
	maxPart   = 5 << 30
	maxParts  = 10_000
	maxObject = 5 << 40
)

// preset is what is usual at a provider.
type preset struct {
	endpoint   string // REGION is replaced
	region     string // the default; empty: has to be given if the endpoint is made from it
	pathStyle  bool
	checksums  bool // x-amz-checksum-sha256 is stored
	equalParts bool // all parts but the last must have one size
	blind      bool // answers 501 to a PUT with If-None-Match
}

var presets = map[string]preset{
	"aws":      {checksums: true, region: "us-east-1"},
	"r2":       {region: "auto", pathStyle: true, equalParts: true},
	"b2":       {endpoint: "https://s3.REGION.backblazeb2.com", pathStyle: true, blind: true},
	"wasabi":   {endpoint: "https://s3.REGION.wasabisys.com", region: "us-east-1", pathStyle: true},
	"hetzner":  {endpoint: "https://REGION.your-objectstorage.com", pathStyle: true},
	"garage":   {region: "garage", pathStyle: true},
	"minio":    {region: "us-east-1", pathStyle: true, checksums: true},
	"scaleway": {endpoint: "https://s3.REGION.scw.cloud", pathStyle: true},
	// Any other server at an endpoint.
	"": {region: "us-east-1", pathStyle: true, checksums: true},
}

// Providers names the presets.
func Providers() []string {
	var names []string
	for name := range presets {
		if name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (c Config) bad(format string, args ...any) error {
	return fault.New(fault.Config, "s3 target %q: %s", c.Bucket, fmt.Sprintf(format, args...))
}

// complete checks the configuration and fills in the preset and the defaults.
func (c Config) complete() (Config, error) {
	if c.Bucket == "" || strings.ContainsAny(c.Bucket, "/?# ") {
		return c, c.bad("a bucket name is needed, without slashes and spaces")
	}
	if c.Provider == "" && c.Endpoint == "" {
		c.Provider = "aws"
	}
	p, ok := presets[c.Provider]
	if !ok {
		return c, c.bad("unknown provider %q; there are %s", c.Provider, strings.Join(Providers(), ", "))
	}
	if c.Prefix = strings.Trim(c.Prefix, "/"); c.Prefix != "" {
		if err := storage.CheckKey(c.Prefix); err != nil {
			return c, c.bad("prefix: %v", err)
		}
		c.Prefix += "/"
	}
	c, err := c.reach(p)
	if err != nil {
		return c, err
	}
	return c.bounds()
}

// reach settles endpoint, region and the ways of the provider.
func (c Config) reach(p preset) (Config, error) {
	if c.Endpoint == "" && c.Provider != "aws" {
		if p.endpoint == "" {
			return c, c.bad("provider %s needs an endpoint", c.Provider)
		}
		if c.Region == "" && p.region == "" {
			return c, c.bad("provider %s needs a region", c.Provider)
		}
		region := c.Region
		if region == "" {
			region = p.region
		}
		c.Endpoint = strings.ReplaceAll(p.endpoint, "REGION", region)
	}
	if c.Endpoint != "" {
		u, err := url.Parse(c.Endpoint)
		switch {
		case err != nil, u.Scheme != "https" && u.Scheme != "http", u.Host == "":
			// Not the text itself: somebody may have put a secret into it.
			return c, c.bad("the endpoint must be a URL like https://host:port")
		case u.User != nil || u.RawQuery != "" || u.Fragment != "":
			return c, c.bad("the endpoint must not carry credentials or a query")
		}
		c.Endpoint = strings.TrimSuffix(c.Endpoint, "/")
	}
	if c.Region == "" && c.Provider != "aws" {
		// For Amazon the environment may name it: see newClient.
		if c.Region = p.region; c.Region == "" {
			c.Region = "us-east-1"
		}
	}
	if c.PathStyle == nil {
		c.PathStyle = aws.Bool(p.pathStyle)
	}
	if c.Checksums == nil {
		c.Checksums = aws.Bool(p.checksums)
	}
	if c.ConditionalWrites == nil {
		c.ConditionalWrites = aws.Bool(!p.blind)
	}
	return c, nil
}

func (c Config) bounds() (Config, error) {
	fill := func(v *int64, def int64) {
		if *v == 0 {
			*v = def
		}
	}
	fill(&c.PartSize, 8<<20)
	fill((*int64)(&c.StallTimeout), int64(60*time.Second))
	if c.Concurrency == 0 {
		c.Concurrency = 3
	}
	if c.MaxAttempts == 0 {
		c.MaxAttempts = 6
	}
	switch {
	case c.PartSize < minPart || c.PartSize > maxPart:
		return c, c.bad("part size %d is outside of 5 MiB to 5 GiB", c.PartSize)
	case c.Concurrency < 1 || c.Concurrency > 8:
		return c, c.bad("concurrency %d is outside of 1 to 8", c.Concurrency)
	case c.MaxAttempts < 1:
		return c, c.bad("max attempts %d: at least one is needed", c.MaxAttempts)
	case c.UploadLimit < 0 || c.StallTimeout < 0:
		return c, c.bad("upload limit and stall timeout cannot be negative")
	case c.SSE != "" && c.SSE != "AES256" && c.SSE != "aws:kms":
		return c, c.bad("sse %q: it is AES256 or aws:kms", c.SSE)
	case c.KMSKeyID != "" && c.SSE != "aws:kms":
		return c, c.bad("a KMS key is only used with sse aws:kms")
	case c.Lock != nil && (c.Lock.Mode != "compliance" && c.Lock.Mode != "governance" || c.Lock.For < time.Minute):
		return c, c.bad("a lock is compliance or governance, for a minute at least")
	case (c.AccessKeyID == "") != (c.SecretAccessKey == ""):
		return c, c.bad("access key id and secret access key go together")
	}
	return c, nil
}
