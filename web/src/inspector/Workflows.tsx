/** Chooses one workflow, or several, by name; what is typed is searched on the server, however many there are. */
import { MultiSelect, Select } from '@mantine/core'
import { useDebouncedValue } from '@mantine/hooks'
import { keepPreviousData, useQueries, useQuery } from '@tanstack/react-query'
import { useState } from 'react'
import { get } from '../api/client'

const SHOWN = 50
const PAUSE_MS = 200

type Props = {
  label: string
  value: string[]
  isMany: boolean
  isRequired: boolean
  onChange: (ids: string[]) => void
}

export function Workflows({ label, value, isMany, isRequired, onChange }: Props) {
  const [typed, setTyped] = useState('')
  const [isOpen, setIsOpen] = useState(false)
  const [q] = useDebouncedValue(typed, PAUSE_MS)
  const found = useQuery({
    queryKey: ['/v1/workflows', 'choices', q],
    queryFn: () => get('/v1/workflows', { query: { q, limit: SHOWN } }),
    placeholderData: keepPreviousData,
  })
  const listed = (found.data?.items ?? []).map(({ id, name }) => ({ value: id, label: name }))
  const others = value.filter((id) => !listed.some((one) => one.value === id))
  const names = useQueries({
    queries: others.map((id) => ({
      queryKey: ['workflow', id],
      queryFn: () => get('/v1/workflows/{id}', { path: { id } }),
      retry: false,
    })),
  })
  const chosen = others.map((id, i) => ({ value: id, label: names[i]?.data?.name ?? id }))
  const ofBoth = {
    'aria-label': label,
    data: [...listed, ...chosen],
    filter: ({ options }: { options: unknown[] }) => options as never, // the server has searched
    searchable: true,
    onDropdownOpen: () => setIsOpen(true),
    onDropdownClose: () => {
      setIsOpen(false)
      setTyped('')
    },
    onSearchChange: (text: string) => isOpen && setTyped(text),
    comboboxProps: { withinPortal: true },
  }
  if (isMany) return <MultiSelect {...ofBoth} value={value} onChange={onChange} />
  return (
    <Select {...ofBoth} clearable={!isRequired} value={value[0] ?? null} onChange={(id) => onChange(id ? [id] : [])} />
  )
}
