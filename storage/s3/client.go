package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"

	"emsafe/internal/fault"
)

// newClient builds the SDK's client with our own transport, retries switched
// off: the SDK's loop could not tell a lost reply from a refusal. inherits tells
// that the region is from the AWS environment or profile.
func newClient(ctx context.Context, cfg Config) (client *s3.Client, inherits bool, err error) {
	roots, err := authorities(cfg.CAFile)
	if err != nil {
		return nil, false, err
	}
	// It has to be a BuildableClient: the SDK refuses any other when the
	// environment has AWS_CA_BUNDLE, which it then adds to roots.
	base := awshttp.NewBuildableClient().WithTransportOptions(func(tr *http.Transport) {
		tr.WriteBufferSize, tr.ReadBufferSize = 64<<10, 64<<10
		if roots != nil {
			if tr.TLSClientConfig == nil {
				tr.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
			}
			tr.TLSClientConfig.RootCAs = roots
		}
	})
	options := []func(*config.LoadOptions) error{
		config.WithHTTPClient(base),
		config.WithLogger(logging.Nop{}),
		config.WithRequestChecksumCalculation(aws.RequestChecksumCalculationWhenRequired),
		config.WithResponseChecksumValidation(aws.ResponseChecksumValidationWhenRequired),
	}
	if cfg.Region != "" {
		options = append(options, config.WithRegion(cfg.Region))
	}
	if cfg.AccessKeyID != "" {
		options = append(options, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(
			cfg.AccessKeyID, string(cfg.SecretAccessKey), string(cfg.SessionToken))))
	}
	if cfg.Provider != "aws" {
		// An instance role is Amazon's; asking for it elsewhere only waits.
		options = append(options, config.WithEC2IMDSClientEnableState(imds.ClientDisabled))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, false, fault.New(fault.Config, "s3 target %q: AWS configuration: %w", cfg.Bucket, err)
	}
	inherits = loaded.Region != "" && cfg.Region == ""
	if loaded.Region == "" {
		loaded.Region = presets["aws"].region
	}
	if loaded.Credentials != nil {
		loaded.Credentials = aws.NewCredentialsCache(marked{loaded.Credentials})
	}
	transport := newTransport(loaded.HTTPClient, cfg.StallTimeout, cfg.UploadLimit, cfg.UploadLimited)
	client = s3.NewFromConfig(loaded, func(o *s3.Options) {
		o.HTTPClient = transport
		o.Retryer = aws.NopRetryer{}
		o.UsePathStyle = *cfg.PathStyle
		o.DisableLogOutputChecksumValidationSkipped = true
		if cfg.Endpoint != "" {
			o.BaseEndpoint = aws.String(cfg.Endpoint)
		}
	})
	return client, inherits, nil
}

func authorities(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fault.New(fault.Config, "CA file: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fault.New(fault.Config, "CA file %s holds no PEM certificate", file)
	}
	return roots, nil
}

// marked tells an error of the credential chain from one of the request.
type marked struct{ aws.CredentialsProvider }

type noCredentials struct{ error }

func (e noCredentials) Unwrap() error { return e.error }

func (m marked) Retrieve(ctx context.Context) (aws.Credentials, error) {
	c, err := m.CredentialsProvider.Retrieve(ctx)
	if err != nil {
		return c, noCredentials{fmt.Errorf("no usable credentials in the configuration or in the standard AWS chain: %w", err)}
	}
	return c, nil
}

// payloadHash gives the SDK the body's SHA-256, which the signature covers:
// it would otherwise hash each body once more, over http even before it
// starts to send.
func payloadHash(hexSum string) func(*s3.Options) {
	return s3.WithAPIOptions(func(stack *middleware.Stack) error {
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("emsafePayloadHash",
			func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (
				middleware.InitializeOutput, middleware.Metadata, error,
			) {
				return next.HandleInitialize(v4.SetPayloadHash(ctx, hexSum), in)
			}), middleware.Before)
	})
}
