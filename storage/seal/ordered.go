package seal

import "sync"

// ordered runs work on several goroutines and hands the finished jobs to one
// sink in the order in which they were submitted. After the first error
// nothing more reaches the sink and submit says so.
type ordered[J any] struct {
	jobs  chan *ticket[J]
	queue chan *ticket[J]
	done  chan struct{} // closed when the sink has seen the last job
	fail  chan struct{} // closed at the first error
	once  sync.Once
	err   error
}

type ticket[J any] struct {
	job   J
	err   error
	ready chan struct{}
}

// startOrdered starts workers goroutines, each with its own work function from
// newWork (encoders are not shared), and the sink's goroutine. They all end
// when close has been called and returned.
func startOrdered[J any](workers int, newWork func() (func(J) error, error), sink func(J) error) (*ordered[J], error) {
	works := make([]func(J) error, workers)
	for i := range works {
		w, err := newWork()
		if err != nil {
			return nil, err
		}
		works[i] = w
	}
	o := &ordered[J]{
		jobs:  make(chan *ticket[J], workers),
		queue: make(chan *ticket[J], workers+1),
		done:  make(chan struct{}),
		fail:  make(chan struct{}),
	}
	for _, work := range works {
		go func() {
			for t := range o.jobs {
				t.err = work(t.job)
				close(t.ready)
			}
		}()
	}
	go func() {
		defer close(o.done)
		for t := range o.queue {
			<-t.ready
			select {
			case <-o.fail:
				continue
			default:
			}
			err := t.err
			if err == nil {
				err = sink(t.job)
			}
			if err != nil {
				o.stop(err)
			}
		}
	}()
	return o, nil
}

// stop keeps the first error and makes submit refuse.
func (o *ordered[J]) stop(err error) {
	o.once.Do(func() { o.err = err; close(o.fail) })
}

// submit queues one job; it blocks while all workers are busy.
func (o *ordered[J]) submit(job J) error {
	t := &ticket[J]{job: job, ready: make(chan struct{})}
	select {
	case <-o.fail:
		return o.err
	case o.queue <- t:
	}
	o.jobs <- t
	return nil
}

// close waits until everything submitted has been through the sink.
func (o *ordered[J]) close() error {
	close(o.jobs)
	close(o.queue)
	<-o.done
	select {
	case <-o.fail:
		return o.err
	default:
		return nil
	}
}
