/** The form that stores a credential for another system. */
import { Select, Switch, Textarea, TextInput } from '@mantine/core'
import { useQuery } from '@tanstack/react-query'
import { useState } from 'react'
import { get, post, type Schemas } from '../api/client'
import { refresh } from '../api/queries'
import { lines } from '../policy/fields'
import { pages } from '../words.pages'
import { FormDialog } from './FormDialog'
import { servesOneOf } from './fits'
import { SchemaForm } from './SchemaForm'
import { fieldsOf, type Schema, type Texts, valuesOf } from './schema'

const said = pages.connectors
const USUAL = 'http-bearer'

export const useTypes = () =>
  useQuery({
    queryKey: ['/v1/connector-types'],
    staleTime: Number.POSITIVE_INFINITY,
    queryFn: () => get('/v1/connector-types'),
  })

type Made = { type: string; id: string }
/** `kinds`: what the step takes that it is made for. */
type Props = { kinds?: string[]; close: () => void; made: (one: Made) => void }

export default function NewConnector({ kinds, close, made }: Props) {
  const types = useTypes()
  const fits = (types.data ?? []).filter((one) => !kinds || servesOneOf(one.type, kinds))
  const [picked, setType] = useState<string>()
  const type = picked ?? (kinds && fits.every((one) => one.type !== USUAL) ? fits[0]?.type : USUAL)
  const [name, setName] = useState('')
  const [hosts, setHosts] = useState('')
  const [texts, setTexts] = useState<Texts>({})
  const chosen = types.data?.find((one) => one.type === type)
  const [movesMoney, setMovesMoney] = useState<boolean | null>(null)
  const fields = fieldsOf((chosen?.dataSchema ?? {}) as Schema)
  const make = async () => {
    const body = {
      type,
      name: name.trim(),
      data: valuesOf(fields, texts),
      allowedHosts: chosen?.attachesToHttp ? lines(hosts) : [],
      movesMoney,
    }
    const one = await post('/v1/connectors', {}, body as Schemas['CreateConnector'])
    await refresh('/v1/connectors')
    made({ type: one.type, id: one.id })
  }
  return (
    <FormDialog title={said.create} go={said.store} close={close} act={make}>
      <Select
        label={said.type}
        description={chosen?.summary}
        allowDeselect={false}
        searchable
        data={fits.map((one) => ({ value: one.type, label: one.name }))}
        value={type ?? null}
        onChange={(value) => {
          setType(value ?? type)
          setTexts({})
        }}
      />
      <TextInput
        label={pages.name}
        required
        data-autofocus
        value={name}
        onChange={(event) => setName(event.currentTarget.value)}
      />
      <SchemaForm fields={fields} texts={texts} set={setTexts} examples={chosen?.exampleData} />
      {chosen?.attachesToHttp && (
        <Textarea
          label={said.hosts}
          description={said.hostsAbout}
          required={!fields.some((one) => one.name === 'command')}
          autosize
          value={hosts}
          onChange={(event) => setHosts(event.currentTarget.value)}
        />
      )}
      <Switch
        label={said.movesMoney}
        description={said.movesMoneyAbout}
        checked={movesMoney ?? chosen?.movesMoney ?? false}
        onChange={(event) => setMovesMoney(event.currentTarget.checked)}
      />
    </FormDialog>
  )
}
