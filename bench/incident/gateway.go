// SPDX-License-Identifier: Apache-2.0

// The gateway of the incident, in its three states, to be measured beside Sluice (bench/incident.py).
//
// It answers a proxy's forward-auth requests: 204 for who may send telemetry, else 401 or 403. It stores no
// message. Redis holds what it asks for:
//
//	device:ID    hash: secret (bcrypt), user, mask      a device
//	key:SHA256   hash: user, mask                       a key of an application
//	user:ID      JSON with all devices of that user and what each may do
//	auth:SHA256  mask; gone 30 s after it was written   only with -variant final
//
//	-variant was     bcrypt for every request; the whole user is fetched and parsed to find one permission
//	-variant rbac    the permission is a bit in the mask; bcrypt for every request
//	-variant final   that, and a verified pair of device and secret is remembered in Redis under its SHA-256 for
//	                 30 s; of requests for the same pair at the same time one computes the hash
package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/gomodule/redigo/redis"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sync/singleflight"
)

const maySend = 1 << 0

var errWrong = errors.New("wrong credentials")

type gateway struct {
	variant string
	ttl     int
	redis   *redis.Pool
	flight  singleflight.Group
	// What /counters shows.
	requests, hashes, hits int64
}

// A device or an application's key, as Redis has it.
type credential struct {
	hash, user string
	mask       uint64
}

// The parts of a user's document that the gateway knows of; all of it is parsed.
type user struct {
	ID      string `json:"id"`
	Devices []struct {
		ID          string   `json:"id"`
		Name        string   `json:"name"`
		Groups      []string `json:"groups"`
		Permissions []string `json:"permissions"`
	} `json:"devices"`
}

func credentialOf(c redis.Conn, key string) (credential, error) {
	fields, err := redis.Strings(c.Do("HMGET", key, "secret", "user", "mask"))
	if err != nil {
		return credential{}, err
	}
	if fields[1] == "" {
		return credential{}, errWrong
	}
	mask, err := strconv.ParseUint(fields[2], 10, 64)
	return credential{fields[0], fields[1], mask}, err
}

// Whether a device may send, by its user's document.
func allowedByUser(c redis.Conn, name, device string) (bool, error) {
	document, err := redis.Bytes(c.Do("GET", "user:"+name))
	if err != nil {
		return false, err
	}
	var u user
	if err := json.Unmarshal(document, &u); err != nil {
		return false, err
	}
	for _, d := range u.Devices {
		if d.ID == device || device == "" {
			for _, p := range d.Permissions {
				if p == "telemetry:write" {
					return true, nil
				}
			}
		}
	}
	return false, nil
}

func (g *gateway) allowed(c redis.Conn, cred credential, device string) (bool, error) {
	if g.variant == "was" {
		return allowedByUser(c, cred.user, device)
	}
	return cred.mask&maySend != 0, nil
}

func (g *gateway) verify(c redis.Conn, device, secret string) (credential, error) {
	cred, err := credentialOf(c, "device:"+device)
	if err != nil {
		return credential{}, err
	}
	atomic.AddInt64(&g.hashes, 1)
	if bcrypt.CompareHashAndPassword([]byte(cred.hash), []byte(secret)) != nil {
		return credential{}, errWrong
	}
	return cred, nil
}

// The name in Redis of a verified pair; the length keeps device and secret apart.
func pairKey(device, secret string) string {
	text := binary.BigEndian.AppendUint32(nil, uint32(len(device)))
	sum := sha256.Sum256(append(append(text, device...), secret...))
	return "auth:" + hex.EncodeToString(sum[:])
}

// The mask of a pair that is remembered, or is verified now and remembered then.
func (g *gateway) remembered(c redis.Conn, device, secret string) (uint64, error) {
	key := pairKey(device, secret)
	mask, err := redis.Uint64(c.Do("GET", key))
	if err == nil {
		atomic.AddInt64(&g.hits, 1)
		return mask, nil
	}
	if err != redis.ErrNil {
		return 0, err
	}
	found, err, _ := g.flight.Do(key, func() (interface{}, error) {
		own := g.redis.Get()
		defer own.Close()
		cred, err := g.verify(own, device, secret)
		if err != nil {
			return uint64(0), err
		}
		_, err = own.Do("SET", key, cred.mask, "EX", g.ttl)
		return cred.mask, err
	})
	return found.(uint64), err
}

func (g *gateway) check(r *http.Request) (bool, error) {
	c := g.redis.Get()
	defer c.Close()
	device, secret := r.Header.Get("X-Device-Id"), r.Header.Get("X-Device-Token")
	if device == "" {
		sum := sha256.Sum256([]byte(r.Header.Get("X-AIO-Key")))
		cred, err := credentialOf(c, "key:"+hex.EncodeToString(sum[:]))
		if err != nil {
			return false, err
		}
		return g.allowed(c, cred, "")
	}
	if g.variant == "final" {
		mask, err := g.remembered(c, device, secret)
		return mask&maySend != 0, err
	}
	cred, err := g.verify(c, device, secret)
	if err != nil {
		return false, err
	}
	return g.allowed(c, cred, device)
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	atomic.AddInt64(&g.requests, 1)
	allowed, err := g.check(r)
	switch {
	case err == errWrong:
		w.WriteHeader(http.StatusUnauthorized)
	case err != nil:
		log.Print(err)
		w.WriteHeader(http.StatusServiceUnavailable)
	case !allowed:
		w.WriteHeader(http.StatusForbidden)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

func (g *gateway) counters(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, `{"requests":%d,"hashes":%d,"hits":%d}`, atomic.LoadInt64(&g.requests),
		atomic.LoadInt64(&g.hashes), atomic.LoadInt64(&g.hits))
}

func main() {
	variant := flag.String("variant", "was", "was, rbac or final")
	listen := flag.String("listen", "127.0.0.1:8080", "where to listen")
	address := flag.String("redis", "127.0.0.1:6379", "where Redis is")
	ttl := flag.Int("ttl", 30, "seconds that a verified pair is remembered")
	flag.Parse()
	if *variant != "was" && *variant != "rbac" && *variant != "final" {
		log.Fatalf("there is no variant %s", *variant)
	}
	dial := func() (redis.Conn, error) { return redis.Dial("tcp", *address) }
	g := &gateway{variant: *variant, ttl: *ttl,
		redis: &redis.Pool{MaxIdle: 512, IdleTimeout: 5 * time.Minute, Dial: dial}}
	http.HandleFunc("/counters", g.counters)
	http.Handle("/", g)
	log.Fatal(http.ListenAndServe(*listen, nil))
}
