package main

import "context"

func (b *bench) impact(ctx context.Context) ([]section, error)     { return nil, nil }
func (b *bench) continuous(ctx context.Context) ([]section, error) { return nil, nil }
func (b *bench) scale(ctx context.Context) ([]section, error)      { return nil, nil }
