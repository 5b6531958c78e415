/** Makes an empty workflow and opens it. */
import { useState } from 'react'
import { useLocation } from 'wouter'
import { post } from '../api/client'
import { refresh } from '../api/queries'
import { words } from '../words'

const said = words.workflows
const EMPTY = { nodes: { root: { type: 'manual', payload: {}, titleOverride: said.firstNodeTitle, children: [] } } }

export function useCreate() {
  const [, go] = useLocation()
  const [error, setError] = useState<unknown>(null)
  /** Opens what is being made. */
  const open = async (making: Promise<{ id: string }>) => {
    try {
      const { id } = await making
      await refresh('/v1/workflows')
      go(`/workflows/${id}`)
    } catch (problem) {
      setError(problem)
    }
  }
  const create = () =>
    open(post('/v1/workflows', {}, { name: said.untitled, description: '', definition: EMPTY } as never))
  return { create, open, error }
}
