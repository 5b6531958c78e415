/** What pages ask: each question has one key, so that a change or an event refreshes everything that shows it. */
import { QueryClient, useInfiniteQuery, useQuery } from '@tanstack/react-query'
import { ApiError, type Data, get, type Json, send } from './client'
import type { paths } from './schema'

export const queries = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 5_000,
      retry: (count, error) => count < 2 && !(error instanceof ApiError && error.code !== 0 && error.status < 500),
    },
  },
})

type Listing = {
  [P in keyof paths]: Data<P, 'get'> extends { items: unknown[]; hasMore: boolean } ? P : never
}[keyof paths] &
  string
export type ItemOf<P extends Listing> = Data<P, 'get'> extends { items: (infer I)[] } ? I : never

export const PAGE = 50

/** A list of the server, page after page; `rows` is what has been loaded. */
export function useList<P extends Listing>(
  path: P,
  query: Json = {},
  place: Record<string, string> = {},
  enabled = true,
) {
  const found = useInfiniteQuery({
    enabled,
    queryKey: [path, place, query],
    queryFn: ({ pageParam, signal }) =>
      send('get', path, { path: place, query: { ...query, limit: PAGE, ...pageParam }, signal }) as Promise<{
        items: ItemOf<P>[]
        hasMore: boolean
        nextCursor?: string | null
      }>,
    initialPageParam: {} as Json,
    getNextPageParam: (last, all): Json | undefined =>
      last.nextCursor ? { cursor: last.nextCursor } : last.hasMore ? { offset: all.length * PAGE } : undefined,
  })
  return { ...found, rows: found.data?.pages.flatMap((page) => page.items) ?? [] }
}

const AT_ONCE = 100
const MOST_PAGES = 20

/** All of a list that no server searches, for a selector: page after page, up to two thousand. */
export async function everyOne<P extends Listing>(path: P): Promise<ItemOf<P>[]> {
  const all: ItemOf<P>[] = []
  for (let page = 0; page < MOST_PAGES; page++) {
    const query = { limit: AT_ONCE, offset: page * AT_ONCE }
    const { items, hasMore } = (await send('get', path, { query })) as { items: ItemOf<P>[]; hasMore: boolean }
    all.push(...items)
    if (!hasMore) break
  }
  return all
}
/** Refreshed with the list's pages, since its key begins as theirs. */
export const useEveryOne = <P extends Listing>(path: P, enabled = true) =>
  useQuery({ queryKey: [path, 'all'], queryFn: () => everyOne(path), enabled }).data ?? []

const me = { queryKey: ['/v1/me'], queryFn: () => get('/v1/me'), staleTime: 60_000 }
export const useMe = (enabled = true) => useQuery({ ...me, enabled })
const workflow = (id: string) => ({
  queryKey: ['workflow', id],
  queryFn: () => get('/v1/workflows/{id}', { path: { id } }),
})
export const useWorkflow = (id: string) => useQuery({ ...workflow(id), enabled: id !== '' })
export const useRun = (id: string) =>
  useQuery({ queryKey: ['run', id], queryFn: () => get('/v1/runs/{id}', { path: { id } }), enabled: id !== '' })
/** A run without the states of its nodes, which may be large: those are asked for one at a time. */
const runHead = (id: string) => ({
  queryKey: ['run', id, 'head'],
  queryFn: () => get('/v1/runs/{id}', { path: { id }, query: { nodeIds: '-', omitLargerThan: 100_000 } }),
})
export const useRunHead = (id: string) => useQuery(runHead(id))
export const useRunNode = (id: string, nodeId: string) =>
  useQuery({
    queryKey: ['run', id, 'node', nodeId],
    queryFn: async () => {
      const run = await get('/v1/runs/{id}', { path: { id }, query: { nodeIds: nodeId } })
      return run.executionState?.[nodeId] ?? null
    },
  })
export const useEffects = (id: string | null | undefined) =>
  useQuery({
    queryKey: ['effects', id],
    queryFn: () => get('/v1/runs/{id}/effects', { path: { id: id ?? '' } }),
    enabled: Boolean(id),
  })

/** An action, or a trigger, which has no effect and no connectors. */
export type Spec = {
  type: string
  name: string
  summary: string
  tags: string[]
  payloadSchema?: Json | null
  resultSchema?: Json | null
  exampleInput?: unknown
  effect?: string
  connectors?: string[]
  connectorRequired?: boolean
  branches?: string[]
  branchesIn?: string | null
}
/** Everything that can be a node, by type. */
const catalog = {
  queryKey: ['catalog'],
  staleTime: Number.POSITIVE_INFINITY,
  queryFn: async () => {
    const [actions, triggers] = await Promise.all([get('/v1/actions'), get('/v1/triggers')])
    const all = [...actions, ...triggers] as unknown as Spec[]
    return Object.fromEntries(all.map((one) => [one.type, one])) as Record<string, Spec>
  },
}
export const useCatalog = () => useQuery(catalog)

/** Asks ahead for what a page with a canvas shows, so that the answers come while its code is still loading. */
export function askAhead(of: { workflow?: string; run?: string }) {
  void queries.prefetchQuery(me)
  if (of.workflow) void queries.prefetchQuery(workflow(of.workflow))
  if (of.run) void queries.prefetchQuery(runHead(of.run))
  void queries.prefetchQuery(catalog)
}

/** After a write: what may have changed is asked again; not what is not there, whose page would show "Loading" meanwhile. */
export const refresh = (...keys: string[]) =>
  Promise.all(
    keys.map((key) => queries.invalidateQueries({ queryKey: [key], predicate: (one) => !isMissing(one.state) })),
  )
const isMissing = ({ data, error }: { data: unknown; error: unknown }) =>
  data === undefined && error instanceof ApiError && error.status === 404
